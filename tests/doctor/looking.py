"""Runs an area's checks as the doctor does, and gives what each found by its name."""

from __future__ import annotations

from typing import Any

from storage.checkups.check import Area, Finding, Outcome, Verdict, examine

#: Long enough for a machine that does much else; a test that waits for silence gives less.
PATIENCE = 60.0


def findings(area: Area[Any], limit: float = PATIENCE) -> list[Finding]:
    """Return every finding; each check has one, and where something is amiss it says what to do."""
    found = list(examine([area], limit))
    assert [finding.check for finding in found] == area.names
    for finding in found:
        if finding.outcome.verdict in (Verdict.WARNING, Verdict.WRONG):
            assert finding.outcome.remedy and finding.outcome.remedy.endswith((".", "'", ")")), finding
    return found


def outcomes(area: Area[Any], limit: float = PATIENCE) -> dict[str, Outcome]:
    """Return what each check found, by its name."""
    return {finding.check: finding.outcome for finding in findings(area, limit)}


def amiss(area: Area[Any], limit: float = PATIENCE) -> dict[str, Outcome]:
    """Return what is not well, by the check's name; but for how fast it was, which depends on what else runs here."""
    found = outcomes(area, limit)
    return {name: found[name] for name in found if name != "latency" and found[name].verdict is not Verdict.OK}
