"""Whatever happens in whatever order, jobs and chunks make only the moves that states.py allows."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import select

from storage import retries, settling
from storage.attempts import Claim
from storage.contract.errors import InvalidOption, UnknownJob, WrongState
from storage.contract.messages import Pointer
from storage.contract.models import Priority
from storage.contract.states import (
    CHUNK_MOVES,
    FINAL_JOB_STATES,
    JOB_MOVES,
    OPEN_CHUNK_STATES,
    ChunkState,
    JobState,
)
from storage.database import Database, now_ms
from storage.stores import Stores
from storage.tables import ChunkRow, JobRow, ResultRow
from tests.storage.builders import CARD, PLENTY, accept, result, serve, set_chunk

PLACE = st.integers(0, 20)


class Mill(RuleBasedStateMachine):
    """One database with a few jobs, two workers and all that may happen to them."""

    databases: ClassVar[Iterator[Database]]

    def __init__(self) -> None:
        super().__init__()
        self.database = next(self.databases)
        self.stores = Stores.on(self.database)
        self.workers = [serve(self.stores), serve(self.stores)]
        self.jobs: list[str] = []
        self.claims: list[Claim] = []
        self.seen_jobs: dict[str, JobState] = {}
        self.seen_chunks: dict[tuple[str, int], tuple[ChunkState, int]] = {}
        self.vectors: dict[tuple[str, int], bytes] = {}
        self.values = itertools.count(1)

    def teardown(self) -> None:
        self.database.close()

    def pick(self, place: int) -> str:
        return self.jobs[place % len(self.jobs)]

    @precondition(lambda self: len(self.jobs) < 3)
    @rule(chunks=st.integers(1, 3), seal=st.booleans())
    def submit(self, chunks: int, seal: bool) -> None:
        job_id = accept(self.stores, chunks)
        self.jobs.append(job_id)
        self.note()
        if seal:
            self.stores.jobs.seal(job_id, 2 * chunks, chunks)

    @precondition(lambda self: self.jobs)
    @rule(place=PLACE)
    def seal(self, place: int) -> None:
        job_id = self.pick(place)
        chunks = [key for key in self.seen_chunks if key[0] == job_id]
        try:
            self.stores.jobs.seal(job_id, 2 * len(chunks), len(chunks))
        except WrongState:
            assert self.seen_jobs.get(job_id) != JobState.ACCEPTING

    @rule()
    def dispatch(self) -> None:
        self.stores.chunks.dispatch(CARD.id, Priority.BULK)

    @rule()
    def undispatch(self) -> None:
        self.stores.chunks.undispatch([Pointer(*key) for key in self.seen_chunks] or [Pointer(self.workers[0], 0)])

    @rule()
    def redispatch(self) -> None:
        self.stores.chunks.redispatch(older_than=-1)

    @precondition(lambda self: self.seen_chunks)
    @rule(place=PLACE, worker=st.integers(0, 1), greedy=st.booleans())
    def claim(self, place: int, worker: int, greedy: bool) -> None:
        key = sorted(self.seen_chunks)[place % len(self.seen_chunks)]
        room = PLENTY if greedy else 0
        self.claims += self.stores.leases.claim(Pointer(*key), self.workers[worker], CARD.id, room)

    @precondition(lambda self: self.claims)
    @rule(place=PLACE, failed=st.sampled_from([(), (0,), (0, 1)]))
    def commit(self, place: int, failed: tuple[int, ...]) -> None:
        claim = self.claims[place % len(self.claims)]  # perhaps a late one, perhaps for the second time
        self.stores.leases.commit([(claim, self.merged(claim, failed))])

    def merged(self, claim: Claim, failed: tuple[int, ...]) -> Any:
        """Return a result that keeps the vectors of an earlier round, as a worker's does."""
        found = self.stores.leases.inputs([claim])
        if not found or found[0][1].kept is None:
            return result(failed=failed, value=float(next(self.values)))
        (page,) = [p for p in self.stores.results.pages(claim.job_id) if p.first == 2 * claim.number]
        kept = page.matrix()
        assert kept is not None
        new = result(value=float(next(self.values)))
        new.matrix[page.succeeded()] = kept[page.succeeded()]
        return new

    @precondition(lambda self: self.claims)
    @rule(place=PLACE, delay=st.sampled_from([0, 60_000]))
    def release(self, place: int, delay: int) -> None:
        self.stores.leases.release([self.claims[place % len(self.claims)]], delay)

    @precondition(lambda self: self.claims)
    @rule(place=PLACE)
    def expire(self, place: int) -> None:
        claim = self.claims[place % len(self.claims)]
        if self.seen_chunks.get((claim.job_id, claim.number), ("", 0))[0] == ChunkState.LEASED:
            set_chunk(self.database, claim.job_id, claim.number, lease_expires=now_ms() - 1)

    @rule()
    def release_expired(self) -> None:
        self.stores.leases.release_expired()

    @rule(worker=st.integers(0, 1), died=st.booleans())
    def lose_worker(self, worker: int, died: bool) -> None:
        self.stores.leases.release_worker(self.workers[worker], died)

    @precondition(lambda self: self.jobs)
    @rule(place=PLACE)
    def cancel(self, place: int) -> None:
        self.allowed(self.stores.jobs.cancel, self.pick(place))

    @precondition(lambda self: self.jobs)
    @rule(place=PLACE)
    def fail(self, place: int) -> None:
        self.stores.jobs.fail(self.pick(place), InvalidOption("dimensions is 9."))

    @precondition(lambda self: self.jobs)
    @rule(place=PLACE)
    def retry(self, place: int) -> None:
        self.allowed(self.stores.jobs.retry_failed, self.pick(place))

    @precondition(lambda self: self.jobs)
    @rule(place=PLACE)
    def delete(self, place: int) -> None:
        self.allowed(self.stores.purges.delete, self.pick(place))

    @precondition(lambda self: self.jobs)
    @rule(place=PLACE)
    def go_on(self, place: int) -> None:
        self.stores.settling.step(self.pick(place))
        self.stores.retries.step(self.pick(place))

    @rule()
    def finish_all(self) -> None:
        self.stores.jobs.finish_all()

    def allowed(self, act: Any, job_id: str) -> None:
        try:
            act(job_id)
        except WrongState:
            assert job_id in self.seen_jobs
        except UnknownJob:
            assert job_id not in self.seen_jobs

    @invariant()
    def note(self) -> None:
        with self.database.read() as connection:
            found = connection.execute(select(JobRow)).all()
            jobs = {row.id: JobState(row.state) for row in found}
            unsettled = {row.id for row in found if row.unsettled_after is not None}
            unretried = {row.id for row in found if row.unretried_from is not None}
            rows = connection.execute(select(ChunkRow.job_id, ChunkRow.number, ChunkRow.state, ChunkRow.token))
            chunks = {(row.job_id, row.number): (ChunkState(row.state), row.token) for row in rows}
            written = connection.execute(select(ResultRow.job_id, ResultRow.number, ResultRow.vectors)).all()
        self.check_moves(jobs, chunks)
        self.check_results(chunks, {(row.job_id, row.number): row.vectors for row in written})
        self.seen_jobs, self.seen_chunks = jobs, chunks
        for job_id, state in jobs.items():
            status = self.stores.statuses.get(job_id)
            assert status.succeeded + status.failed + status.cancelled + status.pending == status.total
            # What is still to go round again counts as failed meanwhile.
            assert (status.pending == 0) is (state in FINAL_JOB_STATES) or job_id in unretried
            open_chunks = [key for key, (state, _) in chunks.items() if key[0] == job_id and state in OPEN_CHUNK_STATES]
            if job_id not in unsettled | unretried:
                assert bool(open_chunks) is (state not in FINAL_JOB_STATES)
            assert job_id not in unsettled or state in FINAL_JOB_STATES
            assert job_id not in unretried or state not in FINAL_JOB_STATES

    def check_moves(self, jobs: dict[str, JobState], chunks: dict[tuple[str, int], tuple[ChunkState, int]]) -> None:
        for job_id, state in jobs.items():
            before = self.seen_jobs.get(job_id, JobState.ACCEPTING)
            assert state == before or state in JOB_MOVES[before], f"a job moved from {before} to {state}"
        for key, (now, token) in chunks.items():
            was, earlier = self.seen_chunks.get(key, (ChunkState.PENDING, token))  # a new one, or half of a split one
            assert now == was or now in CHUNK_MOVES[was], f"a chunk moved from {was} to {now}"
            assert token - earlier in (0, 1)

    def check_results(
        self, chunks: dict[tuple[str, int], tuple[ChunkState, int]], written: dict[tuple[str, int], bytes]
    ) -> None:
        for key, blob in written.items():
            old = self.vectors.get(key)
            retried = self.seen_chunks.get(key, ("", 0))[0] != ChunkState.DONE
            assert old in (None, blob) or retried, "a vector changed after its commit"
        done = {key for key, (state, _) in chunks.items() if state == ChunkState.DONE}
        assert done <= set(written)
        self.vectors = written


@pytest.mark.scenario("states")
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_only_allowed_moves_are_made(
    kind: str,
    tmp_path: Path,
    migrated_sqlite: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Jobs of two chunks and more end, and go round again, in several steps, and nobody goes on at once.
    for one in (settling, retries):
        monkeypatch.setattr(one, "STEP", 1)
        monkeypatch.setattr(one, "AT_ONCE", 0.0)

    def sqlite() -> Iterator[Database]:
        for number in itertools.count():
            path = tmp_path / f"{number}.sqlite3"
            shutil.copy(migrated_sqlite, path)
            yield Database(f"sqlite:///{path}")

    def postgresql() -> Iterator[Database]:
        server = request.getfixturevalue("postgres_server")
        name = request.getfixturevalue("migrated_postgres")
        way = request.getfixturevalue("way_to_postgres")
        while True:
            server.empty(name)
            yield Database(way(name))

    class OneKind(Mill):
        databases = sqlite() if kind == "sqlite" else postgresql()

    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    short = settings(
        max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=checks, database=None
    )
    run_state_machine_as_test(OneKind, settings=short)
