"""Installed packages against the ranges that this version was made for, and which of its parts are installed."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.version import Version

from storage.checkups.check import Area, Outcome, ok, wrong

#: The parts that a user installs; the others are for those who work on the program itself.
_PARTS = ("api", "worker", "postgres", "embedded", "arrow", "openvino")

_OLDEST_PYTHON, _TOO_NEW_PYTHON = (3, 11), (3, 14)


def area(installed: Callable[[str], str] = version) -> Area[list[Requirement]]:
    """Return the checks of what is installed.

    Args:
        installed: Returns the version of a package; raises `PackageNotFoundError` where there is none.
    """

    @contextmanager
    def opened() -> Iterator[tuple[list[Requirement], Outcome]]:
        wanted = [Requirement(line) for line in requires("embedmill") or ()]
        yield wanted, _embedmill(installed)

    found: Area[list[Requirement]] = Area("packages", "embedmill", opened)
    found.check("base", lambda wanted: _base(wanted, installed))
    found.check("parts", lambda wanted: _parts(wanted, installed))
    return found


def _embedmill(installed: Callable[[str], str]) -> Outcome:
    here = f"Embedmill {installed('embedmill')} on Python {platform.python_version()}, {sys.executable}."
    if not _OLDEST_PYTHON <= sys.version_info[:2] < _TOO_NEW_PYTHON:
        return wrong(here, "Use Python 3.11, 3.12 or 3.13.")
    return ok(here)


def _base(wanted: list[Requirement], installed: Callable[[str], str]) -> Outcome:
    needed = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    unfit = [told for one in needed if (told := _misfit(one, installed))]
    if unfit:
        return wrong(f"{'; '.join(unfit)}.", "Install it anew: pip install --upgrade embedmill.")
    return ok(f"All {len(needed)} packages of the base are within their ranges.")


def _parts(wanted: list[Requirement], installed: Callable[[str], str]) -> Outcome:
    whole: list[str] = []
    lacking: list[str] = []
    unfit: list[str] = []
    for part in _PARTS:
        needed = [one for one in wanted if one.marker is not None and one.marker.evaluate({"extra": part})]
        needed = [one for one in needed if not one.marker.evaluate({"extra": ""})]  # type: ignore[union-attr]
        absent = [one.name for one in needed if _version(one.name, installed) is None]
        (lacking if absent else whole).append(part)
        if not absent:
            unfit += [misfit for one in needed if (misfit := _misfit(one, installed))]
    absent_parts = f"; not here: {', '.join(lacking)}" if lacking else ""
    told = f"Installed: {', '.join(whole) or 'the base alone'}{absent_parts}."
    if unfit:
        return wrong(
            f"{told} {'; '.join(sorted(set(unfit)))}.", "Install the parts anew: pip install 'embedmill[...]'."
        )
    return ok(told)


def _misfit(wanted: Requirement, installed: Callable[[str], str]) -> str | None:
    """Return in words what is wrong with a package, or None."""
    found = _version(wanted.name, installed)
    if found is None:
        return f"{wanted.name} is not installed"
    # A build's own label (+cpu) does not count.
    if not wanted.specifier.contains(Version(found).public, prereleases=True):
        return f"{wanted.name} is {found}, and {wanted.specifier} is needed"
    return None


def _version(name: str, installed: Callable[[str], str]) -> str | None:
    try:
        return installed(name)
    except PackageNotFoundError:
        return None
