"""What waits, who works and how fast it went, over both databases."""

import pytest
from sqlalchemy import event, update

from storage.contract.errors import UnknownJob
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.database import Database
from storage.failures import Failure
from storage.loads import Load
from storage.outcomes import ItemError
from storage.pulses import Pulse
from storage.stores import Stores
from storage.tables import JobRow, WorkerRow
from storage.workers import touch_worker
from tests.storage.builders import CARD, OTHER, chunk, claim, finish, result, serve, set_chunk, submit

REFUSED = ItemError("invalid_item", "Refused at the door: empty or blank.")


def set_job(database: Database, job_id: str, **values: object) -> None:
    with database.write() as connection:
        connection.execute(update(JobRow).where(JobRow.id == job_id).values(values))


def test_what_waits_and_what_is_in_hand_is_counted_by_model_and_by_worker(stores: Stores, database: Database) -> None:
    # Given a worker with one of three chunks in hand, and one that is done, of a job that has begun just now
    worker = serve(stores)
    serve(stores, OTHER)
    job_id = submit(stores, 3)
    finish(stores, job_id, 1, worker)
    claim(stores, job_id, 1, worker)
    set_job(database, job_id, started_at=4_102_444_800_000)  # later than any time at which one looks
    # When one looks
    seen = stores.workloads.get()
    # Then the two chunks that are left count as the model's, one of them as the worker's
    assert seen.queued == {CARD.id: Load(2, 4, 40)}
    busy = {one.id: one for one in seen.workers}
    assert (busy[worker].in_hand, busy[worker].jobs) == (Load(1, 2, 20), 1)
    idle = next(one for one in seen.workers if one.model_id == OTHER.id)
    assert (idle.in_hand, idle.jobs) == (Load(), 0)
    # And nothing is known of a rate as long as no worker has told one
    assert seen.tokens_per_second == {}


def test_jobs_that_were_just_looked_at_are_not_counted_again_and_all_adds_up_the_same(
    stores: Stores, database: Database
) -> None:
    # Given jobs at every stage, of two models and of one that nobody knows, that have all begun just now
    worker, other = serve(stores), serve(stores, OTHER)
    jobs = [submit(stores, 3), submit(stores, 2), submit(stores, 1, OTHER, model=OTHER.name)]
    jobs += [submit(stores, 2, card=None, model="mill/unknown"), submit(stores, 1), submit(stores, 2)]
    finish(stores, jobs[0], 2, worker)
    claim(stores, jobs[0], 2, worker)
    (held,) = stores.leases.claim(Pointer(jobs[2], 0), other, OTHER.id, 0)
    stores.leases.commit([(held, result())])
    finish(stores, jobs[4], 1, worker)
    stores.jobs.cancel(jobs[5])
    for job_id in (jobs[0], jobs[2], jobs[4]):
        set_job(database, job_id, started_at=4_102_444_800_000)  # later than any time at which one looks
    seen = stores.workloads.get()
    # When some of them, or all, were looked at, then nothing is missing and nothing is counted twice
    for beside in (jobs[:1], jobs[1:4], jobs[2:], jobs):
        again = stores.workloads.get(stores.statuses.looks(beside))
        assert again.queued == seen.queued == {CARD.id: Load(3, 6, 60), "": Load(2, 4, 40)}
        assert again.oldest_seconds.keys() == seen.oldest_seconds.keys()


def test_a_models_rate_is_what_its_live_workers_have_told_and_no_chunk_that_is_done_is_read(
    stores: Stores, database: Database
) -> None:
    # Given two workers of one model and one of another, one that has gone, and a job that is half done
    workers = [serve(stores), serve(stores), serve(stores, OTHER), serve(stores)]
    for worker, rate in zip(workers, (100.5, 50.0, 7.0, 900.0), strict=True):
        with database.write() as connection:
            touch_worker(connection, worker, Pulse(rate))
    with database.write() as connection:
        connection.execute(update(WorkerRow).where(WorkerRow.id == workers[3]).values(last_seen=1))
    finish(stores, submit(stores, 2), 1, workers[0])
    asked: list[str] = []
    listen = lambda *told: asked.append(told[2])  # noqa: E731
    event.listen(database.engine, "before_cursor_execute", listen)
    # When one looks
    seen = stores.workloads.get()
    event.remove(database.engine, "before_cursor_execute", listen)
    # Then the rates are those of who is there
    assert seen.tokens_per_second == {CARD.id: 150.5, OTHER.id: 7.0}
    # And nobody has asked for what is done
    assert asked and not [told for told in asked if "done_at" in told]


def test_work_for_a_model_that_nobody_knows_waits_under_no_model(stores: Stores) -> None:
    submit(stores, 2, card=None, model="mill/unknown")
    assert stores.workloads.get().queued == {"": Load(2, 4, 40)}


def test_tokens_fall_into_the_stretch_in_which_their_chunk_was_done(stores: Stores, database: Database) -> None:
    # Given a job of eight chunks that ran for eight seconds
    worker = serve(stores)
    job_id = submit(stores, 8)
    assert stores.throughputs.get(job_id) is None
    finish(stores, job_id, 8, worker)
    set_job(database, job_id, started_at=1_000_000, finished_at=1_008_000)
    for number in range(8):
        set_chunk(database, job_id, number, done_at=(1_000_500, 1_003_000, 1_003_900, 1_008_000)[number // 2])
    # When its time is cut in four
    seen = stores.throughputs.get(job_id, 4)
    # Then each chunk's fourteen tokens are where they belong, the last one's at the very end too
    assert seen is not None
    assert (seen.tokens, seen.items) == ([28, 56, 0, 28], [4, 8, 0, 4])
    assert seen.tokens_per_second() == [14, 28, 0, 14]
    # And never more stretches are made than chunks can fill
    more = stores.throughputs.get(job_id, 100)
    assert more is not None and len(more.tokens) == 4


def test_nobody_asks_for_the_speed_of_a_job_that_is_not_there(stores: Stores) -> None:
    with pytest.raises(UnknownJob):
        stores.throughputs.get(new_id())


def test_failed_items_come_in_order_with_ids_and_reasons(stores: Stores) -> None:
    # Given twenty chunks with a failure each, the first of which was refused at the door
    worker = serve(stores)
    chunks = [chunk(n, ids=[f"row {2 * n}", f"row {2 * n + 1}"]) for n in range(20)]
    chunks[0] = chunk(0, ("", "rye"), ids=["row 0", "row 1"], invalid={0: REFUSED})
    job_id = submit(stores, chunks)
    assert stores.failures.first(job_id, 50) == [Failure(0, "row 0", REFUSED)]
    for number in range(20):
        (held,) = claim(stores, job_id, number, worker)
        stores.leases.commit([(held, result(failed=[0] if number == 0 else [1]))])
    # When they are asked for
    found = stores.failures.first(job_id, 50)
    # Then none is missing, more than one read takes or not
    assert [one.position for one in found] == [0, *range(3, 40, 2)]
    assert [one.id for one in found] == [f"row {one.position}" for one in found]
    assert found[1].error == ItemError("encoder_failed", "No vector.")
    assert stores.failures.first(job_id, 3) == found[:3]
