"""The process's own three streams, made such that nothing printed fails for how the shell has set them up."""

from __future__ import annotations

import io
import os
import sys


def make_writable() -> None:
    """Let both outputs take every character, and nothing else take the place of a stream that is closed.

    A closed stdout stays None in `sys`, so that a command can tell; a closed stderr takes everything and keeps nothing.
    """
    for descriptor in range(3):
        _occupy(descriptor)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            # A name in Japanese where the terminal has Latin letters alone.
            stream.reconfigure(errors="backslashreplace")


def _occupy(descriptor: int) -> None:
    """Open nothing in a stream's place when it is closed: a database file would be opened there, and printed into."""
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)
        os.set_inheritable(descriptor, True)
