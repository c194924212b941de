"""Checks, areas of checks, and how they are run: each with a time limit, so that a server that hangs hangs nobody."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

import redis

from storage.contract.errors import EmbedmillError, ServerError

#: Longest time that one check may take, in seconds; whoever asks a server gives up earlier and says why.
LIMIT = 10.0

S = TypeVar("S")


class Verdict(StrEnum):
    """What a check ends with."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one check found.

    Args:
        verdict: How that is.
        found: A sentence of what was found.
        remedy: A sentence that says what to do; always there where something is wrong or may become so.
        details: Further lines, each by itself.
    """

    verdict: Verdict
    found: str
    remedy: str | None = None
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.found} {self.remedy}" if self.remedy else self.found


def ok(found: str, details: Iterable[str] = ()) -> Outcome:
    """Return that all is well."""
    return Outcome(Verdict.OK, found, details=tuple(details))


def warning(found: str, remedy: str, details: Iterable[str] = ()) -> Outcome:
    """Return that something works, and may not for ever."""
    return Outcome(Verdict.WARNING, found, remedy, tuple(details))


def wrong(found: str, remedy: str, details: Iterable[str] = ()) -> Outcome:
    """Return that something does not work."""
    return Outcome(Verdict.WRONG, found, remedy, tuple(details))


def not_checked(found: str, remedy: str | None = None) -> Outcome:
    """Return that nobody could look, and why."""
    return Outcome(Verdict.NOT_CHECKED, found, remedy)


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check, by its name.

    Args:
        area: What was looked at, such as `redis`.
        check: What of it, such as `memory`.
        outcome: What was found.
        unreachable: Whether it is that a server cannot be reached.
    """

    area: str
    check: str
    outcome: Outcome
    unreachable: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        told: dict[str, Any] = {"area": self.area, "check": self.check, "verdict": str(self.outcome.verdict)}
        told |= {"found": self.outcome.found, "remedy": self.outcome.remedy}
        return told | ({"details": list(self.outcome.details)} if self.outcome.details else {})


class NotChecked(Exception):
    """Raised by whoever opens an area that cannot be looked at for a reason that is told elsewhere."""


class Area(Generic[S]):
    """Checks of one thing, which is opened once for all of them.

    Args:
        name: What the thing is called.
        first: What opening it is called, as a check.
        open: Opens it; hands out the thing and what is to be said of it.
        is_server: Whether it is elsewhere, so that silence means that it cannot be reached.
    """

    def __init__(
        self,
        name: str,
        first: str,
        open: Callable[[], AbstractContextManager[tuple[S, Outcome]]],
        is_server: bool = False,
    ) -> None:
        self.name = name
        self.first = first
        self.is_server = is_server
        self._open = open
        self._checks: list[tuple[str, Callable[[S], Outcome]]] = []

    def check(self, name: str, look: Callable[[S], Outcome]) -> None:
        """Add a check.

        Args:
            name: What it looks at.
            look: Returns what it found; what it raises means that it could not look.
        """
        self._checks.append((name, look))

    @property
    def names(self) -> list[str]:
        """The names of all checks, that of opening it first."""
        return [self.first, *(name for name, _ in self._checks)]

    def run(self) -> Iterator[Finding]:
        """Yield the finding of each check in turn; after a server was lost the rest is not checked."""
        lost = f"{self.name} could not be looked at"
        try:
            with self._open() as (thing, outcome):
                yield Finding(self.name, self.first, outcome)
                for number, (name, look) in enumerate(self._checks):
                    try:
                        yield Finding(self.name, name, look(thing))
                    except (ServerError, redis.ConnectionError, redis.TimeoutError) as error:
                        yield Finding(self.name, name, _lost(error), unreachable=True)
                        yield from self._skipped(self.names[number + 2 :], lost)
                        return
                    except Exception as error:  # such as a right that is lacking: no reason to stop here
                        yield Finding(self.name, name, not_checked(f"This could not be asked: {_line(error)}"))
        except NotChecked as why:
            yield from self._skipped(self.names, str(why))
        except EmbedmillError as error:
            remedy = error.remedy or "See what the sentence names."
            away = isinstance(error, ServerError)
            yield Finding(self.name, self.first, wrong(error.message, remedy), unreachable=away)
            yield from self._skipped(self.names[1:], lost)
        except Exception as error:  # whatever it is, a doctor does not fall ill of it
            told = wrong(f"It could not be opened: {_line(error)}", "Check the settings that say where it is.")
            yield Finding(self.name, self.first, told, unreachable=self.is_server)
            yield from self._skipped(self.names[1:], lost)

    def _skipped(self, names: Iterable[str], why: str) -> Iterator[Finding]:
        yield from (Finding(self.name, name, not_checked(f"{why[:1].upper()}{why[1:]}.")) for name in names)


def examine(areas: Iterable[Area[Any]], limit: float = LIMIT) -> Iterator[Finding]:
    """Yield the findings of all areas in order; they are looked at side by side.

    Args:
        areas: What is looked at.
        limit: Longest time that one check may take, in seconds; then it counts as unanswered, and the rest of its area
            is not checked.
    """
    lanes = [_Lane(area) for area in areas]
    for lane in lanes:
        yield from lane.findings(limit)


class _Lane:
    """One area, looked at in a thread that nobody waits for at the end of the program."""

    def __init__(self, area: Area[Any]) -> None:
        self._area = area
        self._found: queue.SimpleQueue[Finding | None] = queue.SimpleQueue()
        self._since = time.monotonic()
        threading.Thread(target=self._run, name=f"doctor {area.name}", daemon=True).start()

    def _run(self) -> None:
        for finding in self._area.run():
            self._since = time.monotonic()
            self._found.put(finding)
        self._found.put(None)

    def findings(self, limit: float) -> Iterator[Finding]:
        names = self._area.names
        for number, name in enumerate(names):
            finding = self._next(limit)
            if finding is None:
                return
            yield finding if isinstance(finding, Finding) else self._silent(name, limit)
            if not isinstance(finding, Finding):
                rest = (Finding(self._area.name, other, not_checked("Nothing answered before it.")) for other in names)
                yield from list(rest)[number + 1 :]
                return

    def _next(self, limit: float) -> Finding | str | None:
        while True:
            left = self._since + limit - time.monotonic()
            try:
                return self._found.get(timeout=max(left, 0.001))
            except queue.Empty:
                if self._since + limit < time.monotonic():
                    return "silent"

    def _silent(self, name: str, limit: float) -> Finding:
        if not self._area.is_server:
            return Finding(self._area.name, name, not_checked(f"To look takes longer than {limit:.0f} s."))
        told = wrong(
            f"There was no answer within {limit:.0f} s.",
            "Look whether the server hangs, and whether a firewall drops what is sent to it.",
        )
        return Finding(self._area.name, name, told, unreachable=True)


def _lost(error: Exception) -> Outcome:
    if isinstance(error, EmbedmillError):
        return wrong(error.message, error.remedy or "See what the sentence names.")
    return wrong(f"The connection was lost ({type(error).__name__}).", "Look whether the server still runs.")


def _line(error: Exception) -> str:
    """Return an error in one line; the driver's words, not the statement."""
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    return f"{lines[0] if lines else type(cause).__name__}".rstrip(".") + "."
