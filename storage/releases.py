"""Which program a process is: the version of the package, and the newest schema that it knows."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

from storage.database import SCHEMA_VERSION


def _version() -> str:
    try:
        return installed("embedmill")
    except PackageNotFoundError:
        # A checkout that was not installed.
        return "unknown"


#: The version of the package that this process runs.
VERSION = _version()


@dataclass(frozen=True, slots=True)
class Release:
    """What a process tells of its program; one from before schema 0013 tells nothing.

    Args:
        version: Of the package; None where it does not tell.
        schema: The newest schema it knows; None where it does not tell.
    """

    version: str | None = None
    schema: str | None = None

    def __str__(self) -> str:
        if self.version is None or self.schema is None:
            return "an earlier version (schema 0012 or older)"
        return f"{self.version} (schema {self.schema})"


#: This process's.
HERE = Release(VERSION, SCHEMA_VERSION)
