"""The door to pyarrow, an optional dependency; it has no types, so what comes through it is Any."""

from __future__ import annotations

import importlib
from typing import Any

from storage.contract.errors import MissingExtra


def arrow_module(name: str) -> Any:
    """Import one of pyarrow's modules.

    Args:
        name: `pyarrow` or `pyarrow.<module>`.

    Raises:
        MissingExtra: When pyarrow is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtra("What reads and writes Arrow and Parquet files", "arrow") from error
