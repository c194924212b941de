"""Checks that `storage`, `producer` and `worker` are Embedmill's own, and not somebody's folders of those names."""

from __future__ import annotations

import importlib.util
from pathlib import Path

NAMES = ("storage", "producer", "worker")


def find_clash() -> str | None:
    """Return a sentence that names the package that shadows one of ours, or None when all is well."""
    home = Path(__file__).resolve().parent.parent
    for name in NAMES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            return f"The package {name!r} of Embedmill is not there. Install embedmill again."
        found = Path(spec.origin).resolve().parent
        if found != home / name:
            return (
                f"{found} shadows Embedmill's own package {name!r}."
                " Run the command from another folder, or rename that one."
            )
    return None
