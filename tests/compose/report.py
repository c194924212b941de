"""What is printed, and kept in a file: steps, and what was found true in each."""

from __future__ import annotations

import time
from pathlib import Path

from tests.commands import ROOT, revision


class Broken(Exception):
    """Something that must hold does not."""


class Report:
    """Prints lines with the seconds since the beginning; counts what held.

    Args:
        path: File that gets the same lines; None: none does.
        checkout: What the commit is asked of.
    """

    def __init__(self, path: Path | None, checkout: Path = ROOT) -> None:
        #: The commit that is reported on; asked before the file is emptied, which may be one of the checkout's own.
        self.commit = revision(checkout)
        self._file = path
        if path is not None:
            path.write_text("", encoding="utf-8")
        self._began = time.monotonic()
        self.held = 0
        self.left_out: list[str] = []

    def say(self, line: str) -> None:
        """Print a line."""
        print(line, flush=True)
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def step(self, title: str) -> None:
        """Begin a step."""
        self.say(f"\n[{time.monotonic() - self._began:5.0f} s] {title}")

    def note(self, fact: str) -> None:
        """Print a fact that nothing depends on."""
        self.say(f"            {fact}")

    def leave_out(self, what: str, why: str) -> None:
        """Say that something was not looked at, and why."""
        self.left_out.append(what)
        self.say(f"  left out  {what}: {why}")

    def check(self, what: str, holds: object, found: object = "") -> None:
        """Note that something holds.

        Raises:
            Broken: When it does not.
        """
        told = f" ({found})" if found != "" else ""
        if not holds:
            self.say(f"  BROKEN    {what}{told}")
            raise Broken(f"{what}{told}")
        self.held += 1
        self.say(f"  holds     {what}{told}")
