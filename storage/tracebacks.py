"""An error as a log may show it: where it was raised and of what kind, never the values that its words may hold."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator

from storage.contract.errors import EmbedmillError

#: Their words are our own, or names in the code.
_HARMLESS = (EmbedmillError, ImportError, NameError, AttributeError)


def told(error: BaseException) -> str:
    """Return the traceback of an error and of those that led to it, as Python writes it, without foreign words.

    Args:
        error: Any error.
    """
    return "".join(_told(error, set())).rstrip("\n")


def _told(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    cause = error.__cause__
    before = cause if cause is not None or error.__suppress_context__ else error.__context__
    if before is not None and id(before) not in seen:
        yield from _told(before, seen)
        how = "The above exception was the direct cause of" if cause is not None else "During its handling came"
        yield f"\n{how} the following exception:\n\n"
    if error.__traceback__ is not None:
        yield "Traceback (most recent call last):\n"
        yield from traceback.format_tb(error.__traceback__)
    kind, words = type(error), _words(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    yield f"{name}: {words}\n" if words else f"{name}\n"
    if isinstance(error, BaseExceptionGroup):
        for number, part in enumerate(error.exceptions, 1):
            yield f"--- part {number} of {len(error.exceptions)}\n"
            yield from _told(part, seen)


def _words(error: BaseException) -> str:
    """Return what an error says where that is known to be harmless: our own words, a reason of the system, a name."""
    if isinstance(error, _HARMLESS):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return ""
