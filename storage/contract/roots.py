"""The root of every error that Embedmill raises on purpose; the tree stands in `errors.py`."""

from __future__ import annotations

from typing import ClassVar


class EmbedmillError(Exception):
    """Root of every error raised on purpose.

    Args:
        message: One sentence that says what is wrong; never contains a text, a vector or a key.
        remedy: One sentence that says what to do about it, or None.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}" if self.remedy else self.message
