"""Commands that people are told to type next, with the place that they named: without it they would ask elsewhere."""

from __future__ import annotations

import re
import shlex
from contextvars import ContextVar
from typing import Any

#: A password in a URL, before the host or behind it.
_PASSWORDS = re.compile(r"(?<=://)([^:/@]*):.*(?=@)|(?<=[?&]password=)[^&]*")

_FLAGS = ("data_dir", "database_url", "url")

_place: ContextVar[tuple[str, ...]] = ContextVar("embedmill_place", default=())


def remember_place(given: dict[str, Any]) -> None:
    """Keep what the command line says of where everything is, for the commands that are advised later.

    Args:
        given: Flags by their names in Python; one that is None was not given.
    """
    words: list[str] = []
    for name in _FLAGS:
        if given.get(name) is not None:
            words += [f"--{name.replace('_', '-')}", _without_password(str(given[name]))]
    _place.set(tuple(words))


def command(*words: object) -> str:
    """Return `embedmill` with these words and the place, as it can be pasted into a shell; a password is left out.

    Args:
        words: The command and its arguments.
    """
    return shlex.join(["embedmill", *map(str, words), *_place.get()])


def _without_password(word: str) -> str:
    return _PASSWORDS.sub(lambda found: "***" if found[1] is None else f"{found[1]}:***", word)
