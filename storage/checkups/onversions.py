"""The versions of all that lives, beside each other and beside the database's schema."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from storage.checkups.check import Outcome, ok, warning, wrong
from storage.releases import Release

#: The newest schema that a program may know which does not tell one.
_UNTOLD = "0012"

#: Versions that may work beside each other: one, and the one before.
_MOST = 2


def judge(living: Iterable[tuple[str, Release]], schema: str) -> Outcome:
    """Return how the versions of processes fit together.

    Args:
        living: Each process, as a person calls it, and its program.
        schema: The schema of the database that they share.
    """
    of: dict[Release, list[str]] = defaultdict(list)
    for name, release in living:
        of[release].append(name)
    if not of:
        return ok("Nobody is alive to be asked for a version.")
    told = [f"{release}: {', '.join(names)}" for release, names in sorted(of.items(), key=lambda one: _age(one[0]))]
    gap = {release: int(schema) - int(release.schema or _UNTOLD) for release in of}
    late = sum(len(of[release]) for release in of if gap[release] > 1)
    if late:
        return wrong(
            f"{_processes(late)} older than the database's schema {schema} allows, which is that before it.",
            "Upgrade and restart them now: they may stumble over what has changed since.",
            told,
        )
    if len(of) > _MOST:
        return warning(
            f"{len(of)} versions work side by side, and only two are meant to.",
            "Restart the oldest with the newest version.",
            told,
        )
    behind = sum(len(of[release]) for release in of if gap[release] == 1)
    if behind:
        return warning(
            f"{_processes(behind)} of the version before; the database is at schema {schema} already.",
            "Restart them with the new version: until then one that ends is not started again.",
            told,
        )
    if len(of) == _MOST:
        return ok("Two versions work side by side, as they may.", told)
    number = sum(map(len, of.values()))
    return ok(f"{'All that live are' if number > 1 else 'What lives is'} of version {next(iter(of))}.")


def _age(release: Release) -> tuple[str, str]:
    """Return what sorts the oldest first."""
    return release.schema or _UNTOLD, release.version or ""


def _processes(number: int) -> str:
    return "One process is" if number == 1 else f"{number:,} processes are"
