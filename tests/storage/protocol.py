"""All that may be done to the stores, in any order, each beside what the model says of it."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize

from storage.attempts import Claim
from storage.contract.errors import InvalidOption
from storage.contract.keeping import Keeping
from storage.contract.messages import Pointer
from storage.contract.models import Priority
from storage.contract.options import JobOptions
from storage.newjobs import NewJob
from storage.outcomes import ItemError
from tests.storage.builders import CARD, OTHER, PLENTY, chunk
from tests.storage.protocol_jobs import Attempt, Chunk, Job
from tests.storage.protocol_mill import ProtocolMill, step
from tests.storage.protocol_rows import result_of

PLACE = st.integers(0, 30)
SIDE = st.integers(0, 1)
KEYS = st.sampled_from([None, None, "monday"])

INVALID = ItemError("invalid_item", "It is empty.")


class Protocol(ProtocolMill):
    """All that two workers, two reconcilers, producers and callers may do."""

    met: ClassVar[Counter[str]]

    @initialize()
    def begin(self) -> None:
        self.submit([3], False, True)
        self.submit([1, 4], True, True)

    # Submitting

    @step(
        weight=2,
        need=lambda self: len(self.ids) < 5,
        sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3),
        invalid=st.booleans(),
        seal=st.booleans(),
    )
    def submit(self, sizes: list[int], invalid: bool, seal: bool) -> None:
        job_id, first = self.next_id(), 0
        job, written = Job(sum(sizes)), []
        for number, size in enumerate(sizes):
            bad = frozenset({0}) if invalid and number == 0 else frozenset()
            job.chunks[number] = Chunk(job_id, number, first, size, bad, failed=len(bad))
            given = dict.fromkeys(bad, INVALID)
            written.append(chunk(number, ["" if i in bad else "wheat" for i in range(size)], first, invalid=given))
            first += size
        self.sides[0].jobs.create(NewJob(job_id, CARD.name, None, CARD.id, JobOptions().to_dict(), keeping=Keeping(0)))
        self.sides[0].chunks.append(job_id, written)
        self.model.jobs[job_id] = job
        self.ids.append(job_id)
        if seal:
            self.seal(len(self.ids) - 1, None)

    @step(weight=2, place=PLACE, key=KEYS)
    def seal(self, place: int, key: str | None) -> None:
        job_id = self.job(place)
        job = self.model.jobs.get(job_id)
        total, chunks = (job.total, len(job.chunks)) if job else (1, 1)
        self.same(
            lambda: self.sides[0].jobs.seal(job_id, total, chunks, None, key), lambda: self.model.seal(job_id, key)
        )

    # Messages

    @step(weight=2, side=SIDE, trip=st.sampled_from([None, None, "dispatch.marking"]))
    def dispatch(self, side: int, trip: str | None) -> None:
        able, room = self.model.sendable(), self.model.room()
        sent: list[tuple[str, int]] | None = None
        with self.broken(trip):
            sent = [(p.job_id, p.chunk) for p in self.sides[side].chunks.dispatch(CARD.id, Priority.BULK)]
        if sent is not None:
            # Which of them is a matter of fairness and chance, not of this model.
            assert len(sent) == len(set(sent)) == min(room, len(able)) and set(sent) <= able
            self.model.send(sent)
        assert self.sides[side].chunks.out(CARD.id) == len(self.model.chunks("dispatched"))

    @step(side=SIDE, place=PLACE)
    def undispatch(self, side: int, place: int) -> None:
        keys = {(self.job(place), number) for number in range(4)}
        self.sides[side].chunks.undispatch([Pointer(*key) for key in keys])
        self.model.take_back(keys)

    @step(side=SIDE, lost=st.booleans())
    def redispatch(self, side: int, lost: bool) -> None:
        found = self.sides[side].chunks.redispatch(older_than=-1 if lost else 600_000)
        assert found == (self.model.take_back() if lost else 0)

    # Leases

    @step(
        weight=8,
        place=PLACE,
        side=SIDE,
        greedy=st.booleans(),
        own=st.sampled_from([True, True, True, False]),
        trip=st.sampled_from([None, None, None, "claim.writing", "claim.committed"]),
    )
    def claim(self, place: int, side: int, greedy: bool, own: bool, trip: str | None) -> None:
        pointer = self.pointer(place)
        model_id = CARD.id if own else OTHER.id
        found: list[Claim] | None = None
        with self.broken(trip) as passed:
            found = self.sides[side].leases.claim(pointer, self.workers[side], model_id, PLENTY if greedy else 0)
        if trip == "claim.writing" and trip in passed:
            return
        taken = self.model.claim(pointer.job_id, pointer.chunk, self.workers[side], greedy) if own else []
        if found is None:
            assert taken
            return
        self.keep(found, taken)
        assert found[:1] == [c for c in found if (c.job_id, c.number) == (pointer.job_id, pointer.chunk)]

    def keep(self, found: list[Claim], taken: list[Chunk]) -> None:
        """Compare what was claimed with what must have been, and remember the attempts."""
        facts = {(c.job_id, c.number, c.token, c.size, c.alone) for c in found}
        assert facts == {(c.job, c.number, c.token, c.size, c.crashes > 0) for c in taken}
        self.attempts += sorted(found, key=lambda claim: (claim.job_id, claim.number))

    @step(
        weight=8,
        need=lambda self: self.attempts,
        place=PLACE,
        many=st.integers(1, 3),
        side=SIDE,
        bad=st.integers(0, 15),
        trip=st.sampled_from([None, None, None, "commit.guarded", "commit.written", "commit.committed"]),
    )
    def commit(self, place: int, many: int, side: int, bad: int, trip: str | None) -> None:
        rows = [(claim, self.row(claim, bad)) for claim in self.some(place, many)]
        results = [(claim, result_of(row)) for claim, row in rows]
        attempts = [(claim.key, row) for claim, row in rows]

        def commit() -> tuple[set[Attempt], set[str]]:
            written, finished = self.sides[side].leases.commit(results)
            return written, set(finished)

        with self.broken(trip) as passed:
            self.same(commit, lambda: self.model.commit(attempts)) if trip is None else commit()
        if trip == "commit.committed":
            self.model.commit(attempts)
        if trip in passed:
            # The answer was lost, or the transaction was: whoever calls again is told the truth.
            self.same(commit, lambda: self.model.commit(attempts))
        elif trip is not None:
            self.model.commit(attempts)

    @step(
        weight=2, need=lambda self: self.attempts, place=PLACE, many=st.integers(1, 3), side=SIDE, resting=st.booleans()
    )
    def release(self, place: int, many: int, side: int, resting: bool) -> None:
        claims = self.some(place, many)
        self.sides[side].leases.release(claims, 3_600_000 if resting else 0)
        self.model.release([claim.key for claim in claims], resting)

    @step(weight=2, need=lambda self: self.attempts, place=PLACE, many=st.integers(1, 3), side=SIDE)
    def give_up(self, place: int, many: int, side: int) -> None:
        claims = self.some(place, many)
        keys = [claim.key for claim in claims]
        finished = self.sides[side].leases.give_up(claims, ItemError("unexpected", "Nobody knows why."))
        assert set(finished) == self.model.give_up(keys, "unexpected")

    @step(place=PLACE, many=st.integers(0, 4), side=SIDE)
    def heartbeat(self, place: int, many: int, side: int) -> None:
        claims, worker = self.some(place, many) if self.attempts else [], self.workers[side]
        own = [claim.key for claim in claims if claim.owner == worker]
        held = self.sides[side].leases.heartbeat(worker, [claim.key for claim in claims])
        assert held == self.model.beat(own)

    @step(
        weight=6,
        need=lambda self: self.model.chunks("leased"),
        worker=SIDE,
        died=st.sampled_from([True, True, False]),
        trip=st.sampled_from([None, None, None, "release.writing"]),
    )
    def lose_worker(self, worker: int, died: bool, trip: str | None) -> None:
        found = None
        with self.broken(trip):
            found = self.sides[0].leases.release_worker(self.workers[worker], died)
        if found is not None:
            assert found == self.model.lose_worker(self.workers[worker], died)

    @step(weight=10, need=lambda self: self.model.suspects(), place=PLACE, side=SIDE)
    def die_of_a_suspect(self, place: int, side: int) -> None:
        suspects, worker = self.model.suspects(), self.workers[side]
        job_id, number = suspects[place % len(suspects)].job, suspects[place % len(suspects)].number
        found = self.sides[side].leases.claim(Pointer(job_id, number), worker, CARD.id, PLENTY)
        self.keep(found, self.model.claim(job_id, number, worker, True))
        assert len(found) == 1
        self.lose_worker(side, True, None)

    @step(side=SIDE)
    def release_silent(self, side: int) -> None:
        assert self.sides[side].leases.release_expired() == self.model.release_silent()

    # Time

    @step(weight=2, need=lambda self: self.model.chunks("leased"), place=PLACE)
    def fall_silent(self, place: int) -> None:
        leased = self.model.chunks("leased")
        silent = leased[place % len(leased)]
        silent.silent = True
        self.sql("UPDATE chunks SET lease_expires = 1 WHERE job_id = :job AND number = :number", silent)

    @step()
    def rest_is_over(self) -> None:
        for resting in self.model.chunks("pending"):
            resting.resting = False
        self.sql("UPDATE chunks SET not_before = 1 WHERE not_before IS NOT NULL")

    @step(place=PLACE)
    def deadline_passes(self, place: int) -> None:
        job = self.model.jobs.get(self.job(place))
        if job is not None and job.state in ("queued", "running"):
            job.over = True
            self.sql("UPDATE jobs SET expires_at = 1 WHERE id = :job", next(iter(job.chunks.values())))

    # Ends

    @step(place=PLACE, side=SIDE)
    def cancel(self, place: int, side: int) -> None:
        self.same(lambda: self.sides[side].jobs.cancel(self.job(place)), lambda: self.model.cancel(self.job(place)))

    @step(place=PLACE, seldom=st.integers(0, 3))
    def fail(self, place: int, seldom: int) -> None:
        if not seldom:
            self.sides[0].jobs.fail(self.job(place), InvalidOption("dimensions is 9."))
            self.model.fail(self.job(place))

    @step(side=SIDE)
    def expire(self, side: int) -> None:
        assert set(self.sides[side].jobs.expire()) == self.model.expire()
        for job_id in self.sides[side].settling.unsettled():
            self.sides[1 - side].settling.go_on(job_id)

    @step(place=PLACE, side=SIDE)
    def retry(self, place: int, side: int) -> None:
        stores, job_id = self.sides[side], self.job(place)
        self.same(lambda: stores.jobs.retry_failed(job_id), lambda: self.model.retry(job_id))

    @step(weight=4, need=lambda self: self.model.retriable(), place=PLACE, side=SIDE)
    def retry_what_failed(self, place: int, side: int) -> None:
        able = self.model.retriable()
        items = self.sides[side].jobs.retry_failed(able[place % len(able)])
        assert items == self.model.retry(able[place % len(able)]) > 0
        self.met["retried"] += items

    @step(side=SIDE)
    def finish_all(self, side: int) -> None:
        assert self.sides[side].jobs.finish_all() == []

    @step(place=PLACE, seldom=st.integers(0, 2))
    def delete(self, place: int, seldom: int) -> None:
        job_id = self.job(place)
        if not seldom:
            self.same(lambda: self.sides[0].purges.delete(job_id), lambda: self.model.mark(job_id))
            if (job := self.model.jobs.get(job_id)) and job.deleted:
                self.sides[1].purges.purge(job_id)
                del self.model.jobs[job_id]

    @step(seldom=st.integers(0, 5))
    def retain(self, seldom: int) -> None:
        if not seldom:
            assert self.sides[0].purges.mark(abandoned_after=-1_000) == self.model.mark_all()
            assert set(self.sides[1].purges.marked()) == {j for j, job in self.model.jobs.items() if job.deleted}

    @step(place=PLACE, side=SIDE)
    def purge(self, place: int, side: int) -> None:
        assert (self.sides[side].purges.step(self.job(place)) is None) == self.model.step(self.job(place))

    # Looking

    @step(place=PLACE, side=SIDE)
    def look(self, place: int, side: int) -> None:
        stores, job_id = self.sides[side], self.job(place)

        def status() -> tuple[str, int, int, int, int]:
            found = stores.statuses.get(job_id)
            assert found.succeeded + found.failed + found.cancelled + found.pending == found.total
            return found.state, found.succeeded, found.failed, found.cancelled, found.pending

        self.same(status, lambda: self.model.status(job_id))
        holder = stores.jobs.find_by_key("monday")
        assert [holder.id if holder else None] == [j for j, job in self.model.jobs.items() if job.key] or [None]
        seen = {j for j, job in self.model.jobs.items() if not job.deleted and job.state != "accepting"}
        assert stores.jobs.list_ids() == sorted(seen, reverse=True)
