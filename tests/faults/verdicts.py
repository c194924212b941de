"""A pytest plugin (`-p tests.faults.verdicts`): writes how each test of a scenario ended to `FAULTS_VERDICTS`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.stamps import stamp


def _database(item: pytest.Item) -> str:
    """Return which database a test ran on, as its parameter says."""
    given: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    return next((value for value in given.values() if value in ("sqlite", "postgresql")), "")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Write a line when a test's body has ended, or when its preparation or its end went wrong."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    path = os.environ.get("FAULTS_VERDICTS")
    names = [name for marker in item.iter_markers("scenario") for name in marker.args]
    if path and names and (report.when == "call" or not report.passed):
        facts: dict[str, Any] = {"test": item.name, "database": _database(item), "outcome": report.outcome}
        facts["seconds"] = round(report.duration, 1)
        with Path(path).open("a") as verdicts:
            for name in names:
                verdicts.write(json.dumps({"scenario": name, **facts, **stamp()}) + "\n")
    return report  # type: ignore[return-value]
