"""A planted bug: a change to the program that one named test must notice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class Misfit(Exception):
    """Raised when the code has changed so that a planted bug no longer applies."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One replacement in one file.

    Args:
        file: Path from the repository's root.
        old: What stands there, exactly once.
        new: What takes its place.
    """

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Plant:
    """One bug.

    Args:
        name: How it is asked for.
        breaks: Which promise or defence is gone with it.
        test: Node id of the test that must fail.
        edits: What is changed, in this order.
    """

    name: str
    breaks: str
    test: str
    edits: tuple[Edit, ...]

    def applied(self, root: Path) -> dict[Path, str]:
        """Return the new content of each file that is changed.

        Args:
            root: The repository, or a copy.

        Raises:
            Misfit: When what an edit replaces is not there exactly once.
        """
        changed: dict[Path, str] = {}
        for edit in self.edits:
            path = root / edit.file
            before = changed[path] if path in changed else path.read_text()
            found = before.count(edit.old)
            if found != 1:
                raise Misfit(f"{self.name}: {edit.file} has what is to be replaced {found} times:\n{edit.old}")
            changed[path] = before.replace(edit.old, edit.new)
        return changed
