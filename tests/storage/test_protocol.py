"""Two workers, two reconcilers, lost answers and late attempts, in any order: every call returns what a model says."""

from __future__ import annotations

import itertools
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from storage import counters, retries, settling
from storage.database import Database
from tests.storage.protocol import Protocol

#: What must have happened at least once in the long form, or it has shown nothing about it.
MEETS = {
    "commits_late",
    "commits_resolved",
    "chunks_split",
    "texts_poisoned",
    "chunks_given_up",
    "leases_expired",
    "jobs_expired",
    "jobs_purged",
    "texts_purged",
    "retried",
}


@pytest.mark.scenario("protocol")
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_call_returns_what_the_model_says(
    kind: str,
    tmp_path: Path,
    migrated_sqlite: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Jobs of more than two chunks end, and go round again, in several steps, as one call for the caller.
    for one in (settling, retries):
        monkeypatch.setattr(one, "STEP", 2)
        monkeypatch.setattr(one, "AT_ONCE", 1e9)

    def sqlite() -> Iterator[tuple[Database, Database]]:
        for number in itertools.count():
            path = tmp_path / f"{number}.sqlite3"
            shutil.copy(migrated_sqlite, path)
            yield Database(f"sqlite:///{path}"), Database(f"sqlite:///{path}")

    def postgresql() -> Iterator[tuple[Database, Database]]:
        server = request.getfixturevalue("postgres_server")
        name = request.getfixturevalue("migrated_postgres")
        way = request.getfixturevalue("way_to_postgres")
        while True:
            server.empty(name)
            yield Database(way(name)), Database(way(name))

    class OneKind(Protocol):
        pairs = sqlite() if kind == "sqlite" else postgresql()
        met: ClassVar[Counter[str]] = Counter()

    full = os.environ.get("FAULTS") == "full"
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    form = settings(
        max_examples=300 if full else 30,
        stateful_step_count=60 if full else 40,
        deadline=None,
        suppress_health_check=checks,
        database=None,
    )
    counters.take()
    run_state_machine_as_test(OneKind, settings=form)
    met = OneKind.met + counters.take()
    assert not full or met.keys() >= MEETS, met
