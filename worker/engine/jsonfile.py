"""JSON files of a model folder, read with errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from storage.contract.errors import ModelBroken


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Args:
        path: A file of a model folder.

    Raises:
        ModelBroken: When it cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ModelBroken(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise ModelBroken(f"{path} is not valid JSON ({error}).", "Download or save the model again.") from error


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an absent file reads as an empty one.

    Args:
        path: A file of a model folder.

    Raises:
        ModelBroken: When it cannot be read or holds anything but one object.
    """
    if not path.is_file():
        return {}
    found = read_json(path)
    if not isinstance(found, dict):
        raise ModelBroken(f"{path} holds no JSON object.", "Download or save the model again.")
    return found
