"""What `embedmill doctor` looks at, what it concludes, and how it tells."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from producer.api.settings import ApiSettings
from producer.remote import checkup as onservice
from storage.checkups import ondatabase, onpackages, onqueues, onredis, onsettings
from storage.checkups.check import Area, Finding, Outcome, Verdict, not_checked
from storage.checkups.places import room
from storage.contract.errors import EmbedmillError
from worker.checkups import ondevices, onmodel
from worker.settings import WorkerSettings

#: Exit codes: something is wrong; a server cannot be reached.
SOMETHING_WRONG, UNREACHABLE = 1, 4

_SIGNS = {
    Verdict.OK: ("✔", "green"),
    Verdict.WARNING: ("!", "yellow"),
    Verdict.WRONG: ("✘", "red"),
    Verdict.NOT_CHECKED: ("-", "dim"),
}


def areas(flags: dict[str, Any], side: str | None = None) -> list[Area[Any]]:
    """Return what is looked at: a service as its client sees it where one is named, else everything here.

    Args:
        flags: What was given on the command line.
        side: Whose rights are looked at in Redis, `worker` or `producer`; None: that is found out.
    """
    found: list[Area[Any]] = [onpackages.area(), onsettings.area((WorkerSettings, ApiSettings), flags)]
    try:
        settings = WorkerSettings.load(**{name: value for name, value in flags.items() if value is not None})
    except EmbedmillError:
        return found  # which the check of the settings tells
    local = any(flags.get(name) is not None for name in ("data_dir", "database_url", "redis_url"))
    if settings.url is not None and not local:
        return [*found, onservice.area(settings)]
    machine: list[Area[Any]] = [_disk(settings.data_dir), ondevices.area(settings.devices), onmodel.area(settings)]
    return [*found, *machine, onredis.area(settings, side), ondatabase.area(settings), onqueues.area(settings)]


def _disk(folder: Path) -> Area[Path]:
    @contextmanager
    def opened() -> Iterator[tuple[Path, Outcome]]:
        yield folder, room(folder)

    return Area("disk", "data folder", opened)


def verdict(findings: Iterable[Finding]) -> Verdict:
    """Return the worst of all."""
    found = {finding.outcome.verdict for finding in findings}
    return next((one for one in (Verdict.WRONG, Verdict.WARNING) if one in found), Verdict.OK)


def exit_code(findings: Sequence[Finding]) -> int:
    """Return what the command ends with: warnings alone are no failure."""
    if any(finding.unreachable for finding in findings):
        return UNREACHABLE
    return SOMETHING_WRONG if verdict(findings) is Verdict.WRONG else 0


def to_dict(findings: Sequence[Finding], since: float) -> dict[str, Any]:
    """Return everything as a JSON object.

    Args:
        findings: What was found.
        since: When it was begun, on the monotonic clock.
    """
    seconds = round(time.monotonic() - since, 2)
    checks = [finding.to_dict() for finding in findings]
    return {"verdict": str(verdict(findings)), "seconds": seconds, "checks": checks}


class Printer:
    """Tells each finding as soon as it is known.

    Args:
        console: Where.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._area = ""
        #: Checks that could not be made, for one reason; told in one line.
        self._skipped: list[Finding] = []

    def show(self, finding: Finding) -> None:
        """Tell one: a sign, what was looked at, what was found, what to do."""
        if finding.outcome.verdict is Verdict.NOT_CHECKED and finding.outcome.remedy is None:
            if self._skipped and (self._skipped[0].area, self._skipped[0].outcome) != (finding.area, finding.outcome):
                self._tell_skipped()
            self._skipped.append(finding)
            return
        self._tell_skipped()
        self._tell(finding)

    def _tell_skipped(self) -> None:
        if self._skipped:
            first, *more = self._skipped
            self._skipped = []
            names = f" Not checked either: {', '.join(one.check for one in more)}." if more else ""
            outcome = not_checked(f"{first.outcome.found}{names}")
            self._tell(Finding(first.area, first.check, outcome))

    def _tell(self, finding: Finding) -> None:
        if finding.area != self._area:
            self._area = finding.area
            self._console.print(Text(f"\n{finding.area}" if self._area else finding.area, style="bold"))
        sign, style = _SIGNS[finding.outcome.verdict]
        head = Text.assemble((f"{sign} ", style), (f"{finding.check:<12} ", "cyan"), finding.outcome.found)
        self._console.print(Padding(head, (0, 0, 0, 2), expand=False))
        if finding.outcome.remedy:
            self._console.print(Padding(Text(f"→ {finding.outcome.remedy}", style=style), (0, 0, 0, 17), expand=False))
        for line in finding.outcome.details:
            self._console.print(Padding(Text(line, style="dim"), (0, 0, 0, 17), expand=False))

    def conclude(self, findings: Sequence[Finding]) -> None:
        """Tell how many of each there were."""
        self._tell_skipped()
        counted = {one: sum(finding.outcome.verdict is one for finding in findings) for one in Verdict}
        told = ", ".join(f"{number} {one}" for one, number in counted.items() if number)
        self._console.print(Text(f"\n{told}.", style=_SIGNS[verdict(findings)][1]))
