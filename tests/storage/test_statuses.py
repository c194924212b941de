"""What a job's status says at each stage, over both databases."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import event, update

from storage import statuses
from storage.chunkcounts import ChunkCounts, count_chunks
from storage.contract.errors import InvalidOption, StorageUnavailable, UnknownJob
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.contract.models import Priority
from storage.database import Database, now_ms
from storage.jobstatus import JobStatus
from storage.outcomes import ItemError
from storage.stores import Stores
from storage.tables import JobRow
from storage.turns import Turn, Turns
from tests.storage.builders import CARD, MODEL, accept, chunk, claim, finish, result, serve, set_chunk, submit

REFUSED = ItemError("invalid_item", "Refused at the door: empty or blank.")


def counts(status: JobStatus) -> tuple[int, int, int, int, int]:
    return (status.total, status.succeeded, status.failed, status.cancelled, status.pending)


def test_of_a_job_that_nobody_has_begun_what_was_sent_counts_as_what_waits(stores: Stores) -> None:
    # Given a job of which a chunk is sent and none was ever claimed
    serve(stores)
    job_id = submit(stores, 3)
    before = stores.statuses.looks([job_id])
    stores.chunks.dispatch(CARD.id, Priority.BULK)
    with stores.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM chunks WHERE state = 'dispatched'").scalar_one()
    # When it is looked at, then it stands as before, and all its chunks wait
    (look,) = stores.statuses.looks([job_id])
    assert [look] == before and (look.chunks, look.tokens, look.status.pending) == (3, 60, 6)


def test_what_has_ended_is_added_up_once(stores: Stores, database: Database) -> None:
    # Given a job that has ended with a failure, and was looked at
    worker = serve(stores)
    job_id = submit(stores, 2)
    finish(stores, job_id, 2, worker, failed=[1])
    before = stores.statuses.get(job_id)
    asked: list[str] = []
    listen = lambda *told: asked.append(told[2])  # noqa: E731
    event.listen(database.engine, "before_cursor_execute", listen)
    # When it is looked at again, then it stands as before, and no chunk is read
    assert stores.statuses.get(job_id) == before
    assert asked and not [told for told in asked if "FROM chunks" in told]
    # And once it is sent round again, and ended anew, it is added up anew
    stores.jobs.retry_failed(job_id)
    assert counts(stores.statuses.get(job_id)) == (4, 2, 0, 0, 2)
    stores.jobs.cancel(job_id)
    assert counts(stores.statuses.get(job_id)) == (4, 2, 0, 2, 0)


def test_a_huge_job_is_added_up_seldom_and_anew_when_it_ends(
    stores: Stores, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a running job of many chunks, a clock that stands still, and adding up that takes two seconds
    now = [1000.0]
    monkeypatch.setattr(statuses, "monotonic", lambda: now[0])

    def count(*given: Any) -> ChunkCounts:
        now[0] += 2.0
        return count_chunks(*given)

    monkeypatch.setattr(statuses, "count_chunks", count)
    worker = serve(stores)
    job_id = submit(stores, 3)
    with database.write() as connection:
        connection.execute(update(JobRow).where(JobRow.id == job_id).values(chunk_count=10_001))
    finish(stores, job_id, 1, worker)
    assert counts(stores.statuses.get(job_id)) == (6, 2, 0, 0, 4)
    # When it goes on, then its sums are believed for twenty times as long as they took
    (held,) = claim(stores, job_id, 1, worker)
    stores.leases.commit([(held, result())])
    now[0] += 39.0
    assert counts(stores.statuses.get(job_id)) == (6, 2, 0, 0, 4)
    now[0] += 2.0
    assert counts(stores.statuses.get(job_id)) == (6, 4, 0, 0, 2)
    # When it ends, then it is added up at once
    (held,) = claim(stores, job_id, 2, worker)
    stores.leases.commit([(held, result())])
    assert (stores.statuses.get(job_id).state, counts(stores.statuses.get(job_id))) == ("completed", (6, 6, 0, 0, 0))


def make_huge(stores: Stores, database: Database) -> str:
    """Return a job of some chunks that counts as one of very many."""
    serve(stores)
    job_id = submit(stores, 3)
    with database.write() as connection:
        connection.execute(update(JobRow).where(JobRow.id == job_id).values(chunk_count=10_001))
    return job_id


class Reads:
    """How often jobs were looked at, however many threads do so."""

    def __init__(self, database: Database) -> None:
        self.jobs: list[str] = []
        event.listen(database.engine, "before_cursor_execute", self._note)

    def _note(self, *told: Any) -> None:
        if "FROM jobs" in told[2] and "FROM chunks" not in told[2]:
            self.jobs.append(told[2])

    def wait_for(self, number: int) -> None:
        deadline = time.monotonic() + 90
        while len(self.jobs) < number:
            assert time.monotonic() < deadline, f"{len(self.jobs)} looks of {number}"
            time.sleep(0.01)


def test_a_huge_job_is_added_up_once_for_all_who_ask_at_once(
    stores: Stores, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a huge job, and adding up that takes until twenty have come
    job_id = make_huge(stores, database)
    reads, added_up = Reads(database), []

    def count(*given: Any) -> ChunkCounts:
        added_up.append(given)
        reads.wait_for(20)
        return count_chunks(*given)

    monkeypatch.setattr(statuses, "count_chunks", count)
    # When they ask at once, then all are told the same, and it was added up once
    with ThreadPoolExecutor(20) as askers:
        told = list(askers.map(stores.statuses.get, [job_id] * 20))
    assert {counts(status) for status in told} == {(6, 0, 0, 0, 6)}
    assert len(added_up) == 1
    # And nothing is kept of turns that are over
    assert not stores.statuses._turns._taken


def test_who_waits_for_a_huge_job_hears_that_it_failed_and_the_next_tries_again(
    stores: Stores, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a huge job, and one who adds it up in vain while others wait
    job_id = make_huge(stores, database)
    added_up: list[Any] = []
    waiting = threading.Semaphore(0)
    wait = Turn.wait

    def count(*given: Any) -> ChunkCounts:
        added_up.append(given)
        if len(added_up) == 1:
            assert all(waiting.acquire(timeout=90) for _ in range(3))
            raise StorageUnavailable("It is away.")
        return count_chunks(*given)

    def waited(turn: Turn) -> None:
        waiting.release()
        wait(turn)

    monkeypatch.setattr(statuses, "count_chunks", count)
    monkeypatch.setattr(Turn, "wait", waited)
    # Then all hear of it
    with ThreadPoolExecutor(4) as askers:
        asked = [askers.submit(stores.statuses.get, job_id) for _ in range(4)]
        assert all(isinstance(one.exception(90), StorageUnavailable) for one in asked)
    assert len(added_up) == 1
    # And who comes next adds it up
    assert counts(stores.statuses.get(job_id)) == (6, 0, 0, 0, 6)
    assert len(added_up) == 2


def test_a_turn_that_ends_in_another_error_is_taken_by_who_waited() -> None:
    turns = Turns()
    with pytest.raises(KeyError), turns.turn("oats"):
        with turns.turn("oats") as other, turns.turn("rye") as free:
            assert other is not None and free is None
        raise KeyError
    other.wait()
    with turns.turn("oats") as again:
        assert again is None


def test_what_a_job_waits_for_is_told_without_counting_it(stores: Stores, database: Database) -> None:
    # Given a job whose model nobody serves, and one that is gone
    job_id = submit(stores, 2, card=None, model="mill/unknown")
    asked: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
    # When it is asked what it waits for, then that is told, and no chunk is read
    told = stores.statuses.waiting_for(job_id)
    assert told is not None and "a worker that serves mill/unknown" in told
    assert asked and not [one for one in asked if "chunks" in one]
    assert stores.statuses.get(job_id).waiting_for == told
    with pytest.raises(UnknownJob):
        stores.statuses.waiting_for(new_id())


def test_counts_add_up_at_every_stage(stores: Stores) -> None:
    # Given six items, one of them refused at the door
    worker = serve(stores)
    job_id = accept(stores, [chunk(0), chunk(1, ("", "rye"), invalid={0: REFUSED}), chunk(2)])
    assert counts(stores.statuses.get(job_id)) == (6, 0, 1, 0, 5)
    stores.jobs.seal(job_id, 6, 3)
    seen = [stores.statuses.get(job_id)]
    # When it is sent, claimed, committed with a failure and a cut text
    stores.chunks.dispatch(CARD.id, Priority.BULK)
    seen.append(stores.statuses.get(job_id))
    (held,) = claim(stores, job_id, 0, worker)
    seen.append(stores.statuses.get(job_id))
    stores.leases.commit([(held, result(failed=[1], cut=[0]))])
    seen.append(stores.statuses.get(job_id))
    (held,) = claim(stores, job_id, 1, worker)
    stores.leases.commit([(held, result(failed=[0]))])
    seen.append(stores.statuses.get(job_id))
    (held,) = claim(stores, job_id, 2, worker)
    stores.leases.commit([(held, result())])
    seen.append(stores.statuses.get(job_id))
    # Then every stage is told as it is
    assert [status.state for status in seen] == ["queued", "queued", "running", "running", "running", "completed"]
    assert [counts(status) for status in seen] == [
        (6, 0, 1, 0, 5),
        (6, 0, 1, 0, 5),
        (6, 0, 1, 0, 5),
        (6, 1, 2, 0, 3),
        (6, 2, 2, 0, 2),
        (6, 4, 2, 0, 0),
    ]
    assert (seen[-1].truncated, seen[-1].tokens) == (1, 42)
    for status in seen:
        assert status.succeeded + status.failed + status.cancelled + status.pending == status.total
        assert status.is_final is (status.pending == 0)


def test_a_cancelled_job_has_nothing_pending_and_keeps_what_was_refused(stores: Stores) -> None:
    worker = serve(stores)
    job_id = submit(stores, [chunk(0), chunk(1, ("", "rye"), invalid={0: REFUSED}), chunk(2)])
    finish(stores, job_id, 1, worker)
    claim(stores, job_id, 2, worker)
    stores.jobs.cancel(job_id)
    status = stores.statuses.get(job_id)
    assert (status.state, status.is_final) == ("cancelled", True)
    assert counts(status) == (6, 2, 1, 3, 0)


def test_a_failed_job_has_nothing_pending(stores: Stores) -> None:
    serve(stores)
    job_id = submit(stores, 2)
    stores.jobs.fail(job_id, InvalidOption("dimensions is 9."))
    assert counts(stores.statuses.get(job_id)) == (4, 0, 0, 4, 0)


def test_retried_items_are_pending_again(stores: Stores) -> None:
    worker = serve(stores)
    job_id = submit(stores, 2)
    finish(stores, job_id, 2, worker, failed=[1])
    assert counts(stores.statuses.get(job_id)) == (4, 2, 2, 0, 0)
    stores.jobs.retry_failed(job_id)
    status = stores.statuses.get(job_id)
    assert counts(status) == (4, 2, 0, 0, 2)
    assert (status.state, status.finished_at, status.waiting_for) == ("queued", None, None)
    # And a cancel then keeps the vectors that are there
    stores.jobs.cancel(job_id)
    assert counts(stores.statuses.get(job_id)) == (4, 2, 0, 2, 0)


def test_times_are_iso_8601_in_utc_and_in_order(stores: Stores) -> None:
    worker = serve(stores)
    job_id = submit(stores)
    finish(stores, job_id, 1, worker)
    status = stores.statuses.get(job_id)
    assert status.started_at is not None and status.finished_at is not None
    times = [datetime.fromisoformat(time) for time in (status.created_at, status.started_at, status.finished_at)]
    assert status.created_at.endswith("Z")
    assert times == sorted(times)


def test_a_job_waits_for_a_worker_only_while_nobody_serves_its_model(stores: Stores) -> None:
    unknown = submit(stores, card=None)
    told = stores.statuses.get(unknown).waiting_for
    assert told is not None and told.startswith(f"a worker that serves {MODEL}") and f"--model {MODEL}" in told
    worker = serve(stores)
    job_id = submit(stores)
    assert stores.statuses.get(job_id).waiting_for is None
    stores.workers.leave(worker)
    assert stores.statuses.get(job_id).waiting_for is not None
    stores.jobs.cancel(job_id)
    assert stores.statuses.get(job_id).waiting_for is None
    assert stores.statuses.get(accept(stores)).waiting_for == "the end of its submission"


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", "float32"), ("half", "bfloat16"), ("int8", "int8")], ids=lambda word: word
)
def test_a_job_bound_to_a_number_type_says_which_a_worker_for_it_needs(
    stores: Stores, precision: str, dtype: str
) -> None:
    # Given a job that was begun in one precision of a model, and nobody but a worker of another revision
    bound = replace(CARD, precision=precision)
    worker = serve(stores, bound)
    job_id = submit(stores, card=bound)
    assert stores.leases.claim(Pointer(job_id, 0), worker, bound.id, 0)
    stores.workers.leave(worker)
    serve(stores, replace(CARD, revision="0ther"))
    # Then a worker that is started as the job says would serve it
    told = stores.statuses.get(job_id).waiting_for
    assert told is not None and f"in {precision}, " in told and f"--dtype {dtype})" in told


def test_the_rate_of_a_finished_job_is_that_of_its_whole_run(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    job_id = submit(stores, 2)
    assert stores.statuses.get(job_id).tokens_per_second is None
    finish(stores, job_id, 2, worker)
    with database.write() as connection:
        spent = {"started_at": 1_000_000, "finished_at": 1_014_000}
        connection.execute(update(JobRow).where(JobRow.id == job_id).values(**spent))
    status = stores.statuses.get(job_id)
    assert (status.tokens, status.tokens_per_second, status.eta_seconds) == (28, 2.0, None)


def test_the_rate_of_a_running_job_is_that_of_its_last_half_minute(stores: Stores, database: Database) -> None:
    # Given a job that began long ago, with one chunk done long ago and one just now
    worker = serve(stores)
    job_id = submit(stores, 4)
    finish(stores, job_id, 2, worker)
    set_chunk(database, job_id, 0, done_at=now_ms() - 120_000)
    set_chunk(database, job_id, 1, done_at=4_102_444_800_000)  # later than any time at which one looks
    with database.write() as connection:
        connection.execute(update(JobRow).where(JobRow.id == job_id).values(started_at=now_ms() - 600_000))
    status = stores.statuses.get(job_id)
    # Then 14 tokens in 30 seconds are its rate
    assert status.tokens_per_second == pytest.approx(14 / 30, abs=0.05)
    # And the 40 estimated tokens that are left, 0.7 real ones each, take a minute
    assert status.eta_seconds == pytest.approx(60.0, abs=0.5)


def test_a_job_of_which_nothing_is_done_has_neither_rate_nor_time_left(stores: Stores) -> None:
    worker = serve(stores)
    job_id = submit(stores)
    claim(stores, job_id, 0, worker)
    status = stores.statuses.get(job_id)
    assert (status.tokens_per_second, status.eta_seconds) == (None, None)


def test_many_leaves_out_what_is_not_there(stores: Stores) -> None:
    serve(stores)
    first, second = submit(stores), submit(stores, 2)
    assert [status.id for status in stores.statuses.many([second, new_id(), first])] == [second, first]
    with pytest.raises(UnknownJob):
        stores.statuses.get(new_id())


def test_a_status_is_a_json_object_of_the_promised_fields(stores: Stores) -> None:
    serve(stores)
    status = stores.statuses.get(submit(stores)).to_dict()
    assert " ".join(status) == (
        "id state model total succeeded failed cancelled pending truncated tokens tokens_per_second eta_seconds "
        "created_at started_at finished_at error waiting_for keep_days keep_texts_days kept_until texts_kept_until "
        "name labels"
    )
