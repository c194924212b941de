"""Commands of other programs, run and waited for: what the tests of containers and those of a cluster share."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

#: How much of a command, in words, and of what it printed, in lines, is told when it fails.
_WORDS, _LINES = 12, 25


class CommandFailed(Exception):
    """A command failed."""


def run(
    line: Sequence[str],
    timeout: float,
    *,
    stdin: str | None = None,
    check: bool = True,
    both: bool = False,
    variables: dict[str, str] | None = None,
    folder: Path = ROOT,
) -> tuple[int, str]:
    """Run a command; return its exit status and what it printed, without the last line's end.

    Args:
        line: The command.
        timeout: Longest time that it may take, in seconds.
        stdin: What it reads; None: nothing.
        check: Whether it must not fail.
        both: Whether what it printed on its second stream is returned too.
        variables: On top of this process's environment.
        folder: Where it runs.

    Raises:
        CommandFailed: When it fails and must not.
    """
    finished = subprocess.run(
        line,
        cwd=folder,
        env={**os.environ, **(variables or {})},
        input=stdin or "",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if both else subprocess.PIPE,
        text=True,
        timeout=timeout,
    )
    if check and finished.returncode != 0:
        told = "\n".join((finished.stdout + (finished.stderr or "")).splitlines()[-_LINES:])
        raise CommandFailed(f"{' '.join(line[:_WORDS])} ended with {finished.returncode}:\n{told}")
    return finished.returncode, finished.stdout.strip()


def until(
    what: str,
    holds: Callable[[], Any],
    patience: float,
    forgiven: type[Exception] | tuple[type[Exception], ...],
    pause: float = 0.25,
) -> Any:
    """Wait until something is so, asking again and again, at least once; return what the last question found.

    Args:
        what: What is waited for, in words.
        holds: Asks; anything that counts as true ends the wait.
        patience: Longest wait in seconds.
        forgiven: Errors of a question that count as no.
        pause: Seconds between two questions.

    Raises:
        TimeoutError: When it is not in time.
    """
    deadline, last = time.monotonic() + patience, ""
    while True:
        try:
            if found := holds():
                return found
        except forgiven as error:
            last = f"; last: {error}"
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{what}: not within {patience:.0f} s{last}")
        time.sleep(pause)


def revision(folder: Path = ROOT) -> str:
    """Return the commit that a checkout is of, with a word behind it where files differ from it."""
    head = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return subprocess.run(head, cwd=folder, capture_output=True, text=True).stdout.strip() or "unknown"
