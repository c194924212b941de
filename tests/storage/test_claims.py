"""Who may claim what, and how leases are held and given back, over both databases."""

import time
from contextlib import closing

import pytest
from sqlalchemy import select, update

from storage.contract import failpoints
from storage.contract.errors import InvalidOption, StorageUnavailable
from storage.contract.ids import new_id
from storage.contract.models import Priority
from storage.contract.options import JobOptions
from storage.database import Database, now_ms
from storage.migrations import migrate
from storage.outcomes import ItemError
from storage.stores import Stores
from storage.tables import ChunkRow, WorkerRow
from tests.storage.builders import (
    OTHER,
    PLENTY,
    accept,
    chunk,
    chunk_row,
    chunk_states,
    claim,
    finish,
    result,
    serve,
    set_chunk,
    submit,
)


@pytest.mark.parametrize("state", ["pending", "dispatched"])
def test_a_waiting_chunk_is_claimed(stores: Stores, database: Database, state: str) -> None:
    worker = serve(stores)
    job_id = submit(stores, priority=Priority.URGENT)
    set_chunk(database, job_id, 0, state=state)
    (held,) = claim(stores, job_id, 0, worker)
    assert (held.job_id, held.number, held.token, held.size, held.priority) == (job_id, 0, 1, 2, Priority.URGENT)
    assert held.options["store_dtype"] == "float32"
    row = chunk_row(database, job_id)
    assert (row.state, row.lease_owner, row.claims) == ("leased", worker, 1)
    assert row.lease_expires > row.token


def test_the_first_claim_starts_the_job_and_a_later_one_does_not_start_it_again(stores: Stores) -> None:
    worker = serve(stores)
    job_id = submit(stores, 2)
    assert stores.statuses.get(job_id).started_at is None
    claim(stores, job_id, 0, worker)
    status = stores.statuses.get(job_id)
    assert status.state == "running" and status.started_at is not None
    claim(stores, job_id, 1, worker)
    assert stores.statuses.get(job_id).started_at == status.started_at


def test_a_leased_chunk_is_claimed_only_once_its_lease_has_expired(stores: Stores, database: Database) -> None:
    # Given a chunk that a worker holds
    slow, quick = serve(stores), serve(stores)
    job_id = submit(stores)
    (first,) = claim(stores, job_id, 0, slow)
    # When its message comes doubled, then nobody gets it
    assert claim(stores, job_id, 0, quick) == []
    # When the lease is over, then another worker gets it, with a higher token
    set_chunk(database, job_id, 0, lease_expires=now_ms() - 1)
    (second,) = claim(stores, job_id, 0, quick)
    assert second.token == first.token + 1
    assert chunk_row(database, job_id).lease_owner == quick


def test_what_is_not_to_be_had_is_not_claimed(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    serve(stores, OTHER)
    done, cancelled, foreign = submit(stores), submit(stores), submit(stores, card=OTHER)
    finish(stores, done, 1, worker)
    stores.jobs.cancel(cancelled)
    early = submit(stores)
    set_chunk(database, early, 0, not_before=now_ms() + 60_000)
    for job_id, number in ((done, 0), (cancelled, 0), (foreign, 0), (early, 0), (accept(stores), 0), (new_id(), 0)):
        assert claim(stores, job_id, number, worker) == []
    assert claim(stores, submit(stores), 1, worker) == []


def test_a_chunk_of_a_closed_job_is_not_claimed_even_if_it_was_left_open(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    job_id = submit(stores)
    stores.jobs.cancel(job_id)
    set_chunk(database, job_id, 0, state="dispatched")
    assert claim(stores, job_id, 0, worker) == []


def test_further_chunks_of_the_queue_are_claimed_as_far_as_tokens_have_room(stores: Stores, database: Database) -> None:
    # Given chunks of 20 tokens each, in two jobs of one queue
    worker = serve(stores)
    first, second = submit(stores, 2), submit(stores, 3)
    urgent = submit(stores, priority=Priority.URGENT)
    # When a message's chunk is claimed with room for 75
    held = claim(stores, first, 1, worker, room=75)
    # Then the oldest further ones that fit come with it, and none of another queue
    assert [(h.job_id, h.number) for h in held] == [(first, 1), (first, 0), (second, 0)]
    assert chunk_states(database, second) == ["leased", "pending", "pending"]
    assert chunk_states(database, urgent) == ["pending"]
    assert stores.statuses.get(second).state == "running"


def test_what_other_keys_have_comes_along_only_when_ones_own_has_no_more(stores: Stores) -> None:
    # Given two jobs of one key, and a large and a small one of others
    worker = serve(stores)
    first, second = submit(stores, 2, owner="own"), submit(stores, 1, owner="own")
    large, small = submit(stores, 40, owner="large"), submit(stores, 1, owner="small")
    # When there is room for four more chunks, then those of its own come first, and each other key has its share
    held = claim(stores, first, 0, worker, room=100)
    assert [h.job_id for h in held[:3]] == [first, first, second]
    assert sorted(h.job_id for h in held[3:]) == sorted([large, small])
    # And where its own key has more than fits, nobody else's come
    other = submit(stores, 20, owner="own")
    assert {h.job_id for h in claim(stores, other, 0, worker, room=50)} == {other}


def test_chunks_that_were_sent_to_others_are_left_to_them(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    job_id = submit(stores, 3)
    set_chunk(database, job_id, 1, state="dispatched")
    held = claim(stores, job_id, 0, worker, room=PLENTY)
    assert [h.number for h in held] == [0, 2]


def test_the_messages_own_chunk_is_claimed_however_little_room_there_is(stores: Stores) -> None:
    worker = serve(stores)
    job_id = submit(stores, 2)
    assert [h.number for h in claim(stores, job_id, 0, worker, room=1)] == [0]


def test_a_token_only_grows(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    job_id = submit(stores)
    tokens = []
    for _ in range(3):
        (held,) = claim(stores, job_id, 0, worker)
        tokens.append(held.token)
        stores.leases.release([held])
    (held,) = claim(stores, job_id, 0, worker)
    stores.leases.commit([(held, result(failed=[0]))])
    stores.jobs.retry_failed(job_id)
    (held,) = claim(stores, job_id, 0, worker)
    assert [*tokens, held.token] == [1, 2, 3, 5]
    assert chunk_row(database, job_id).claims == 5


def test_the_texts_of_a_claim_come_with_what_is_known_of_them(stores: Stores) -> None:
    worker = serve(stores)
    refused = ItemError("invalid_item", "Refused at the door: empty or blank.")
    job_id = submit(stores, [chunk(0, ("wheat", "", "rye"), invalid={1: refused})])
    (held,) = claim(stores, job_id, 0, worker)
    ((_, found),) = stores.leases.inputs([held])
    assert (found.texts, found.settled, found.kept) == (["wheat", "", "rye"], {1: refused}, None)


def test_a_heartbeat_extends_leases_and_tells_by_omission_which_are_lost(stores: Stores, database: Database) -> None:
    # Given a worker with four chunks: one it keeps, one cancelled, one expired and taken over, one committed
    slow, quick = serve(stores), serve(stores)
    kept, cancelled, taken, done = (submit(stores) for _ in range(4))
    claims = {job_id: claim(stores, job_id, 0, slow)[0] for job_id in (kept, cancelled, taken, done)}
    stores.jobs.cancel(cancelled)
    set_chunk(database, taken, 0, lease_expires=now_ms() - 1)
    claim(stores, taken, 0, quick)
    stores.leases.commit([(claims[done], result())])
    set_chunk(database, kept, 0, lease_expires=now_ms() + 5)
    # When it beats
    held = stores.leases.heartbeat(slow, [claim.key for claim in claims.values()])
    # Then it is told only what it keeps, and that for a whole lease
    assert held == {claims[kept].key}
    with database.read() as connection:
        now = connection.execute(select(now_ms())).scalar_one()
    assert chunk_row(database, kept).lease_expires > now + 30_000
    assert chunk_row(database, taken).lease_owner == quick


def test_a_heartbeat_waits_for_no_commit(postgres_url: str) -> None:
    with closing(Database(postgres_url)) as database:
        migrate(database)
        stores = Stores.on(database)
        # Given a worker with two chunks, one of which is being committed for a while
        worker = serve(stores)
        job_id = submit(stores, 2)
        keys = [claim(stores, job_id, number, worker)[0].key for number in range(2)]
        with database.write() as committing:
            committing.execute(select(ChunkRow.number).where(ChunkRow.number == 0).with_for_update())
            # When it beats
            begun = time.monotonic()
            still = stores.leases.heartbeat(worker, keys)
            # Then the other one is extended at once
            assert still == {keys[1]} and time.monotonic() - begun < 30
        # And both are, once the commit is over
        assert stores.leases.heartbeat(worker, keys) == set(keys)


def test_a_worker_is_alive_whatever_becomes_of_its_leases(
    stores: Stores, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a worker that was not seen for a while, and cannot extend what it holds
    worker = serve(stores)
    with database.write() as connection:
        connection.execute(update(WorkerRow).values(last_seen=1))
    monkeypatch.setattr(failpoints, "reach", _away)
    # When it beats
    with pytest.raises(StorageUnavailable):
        stores.leases.heartbeat(worker, [])
    # Then it has been seen
    with database.read() as connection:
        assert connection.execute(select(WorkerRow.last_seen)).scalar_one() > 1


def _away(name: str) -> None:
    raise StorageUnavailable(f"away at {name}")


def test_a_released_chunk_is_pending_at_once_or_after_its_delay(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    now_job, later_job = submit(stores), submit(stores)
    stores.leases.release(claim(stores, now_job, 0, worker))
    stores.leases.release(claim(stores, later_job, 0, worker), delay=60_000)
    for job_id in (now_job, later_job):
        row = chunk_row(database, job_id)
        assert (row.state, row.lease_owner, row.lease_expires) == ("pending", None, None)
    assert len(claim(stores, now_job, 0, worker)) == 1
    assert claim(stores, later_job, 0, worker) == []
    set_chunk(database, later_job, 0, not_before=now_ms() - 1)
    assert len(claim(stores, later_job, 0, worker)) == 1


def test_a_late_release_does_not_take_the_chunk_from_its_new_owner(stores: Stores, database: Database) -> None:
    slow, quick = serve(stores), serve(stores)
    job_id = submit(stores)
    late = claim(stores, job_id, 0, slow)
    set_chunk(database, job_id, 0, lease_expires=now_ms() - 1)
    claim(stores, job_id, 0, quick)
    stores.leases.release(late)
    row = chunk_row(database, job_id)
    assert (row.state, row.lease_owner) == ("leased", quick)


@pytest.mark.parametrize(("died", "crashes"), [(True, 1), (False, 0)])
def test_a_stopped_workers_chunks_come_back_and_a_death_is_counted(
    stores: Stores, database: Database, died: bool, crashes: int
) -> None:
    gone, other = serve(stores), serve(stores)
    job_id = submit(stores, 3)
    for number, worker in ((0, gone), (1, gone), (2, other)):
        claim(stores, job_id, number, worker)
    assert stores.leases.release_worker(gone, died=died) == 2
    assert chunk_states(database, job_id) == ["pending", "pending", "leased"]
    assert [chunk_row(database, job_id, number).crashes for number in range(3)] == [crashes, crashes, 0]


def test_expired_leases_come_back_without_anybodys_fault_and_running_ones_do_not(
    stores: Stores, database: Database
) -> None:
    worker = serve(stores)
    job_id = submit(stores, 2)
    claim(stores, job_id, 0, worker)
    claim(stores, job_id, 1, worker)
    assert stores.leases.release_expired() == 0
    set_chunk(database, job_id, 0, lease_expires=now_ms() - 1)
    assert stores.leases.release_expired() == 1
    assert chunk_states(database, job_id) == ["pending", "leased"]
    assert chunk_row(database, job_id, 0).crashes == 0


def test_a_job_whose_options_cannot_be_read_keeps_nobody_else_waiting(stores: Stores, database: Database) -> None:
    # Given an older job whose options are no JSON, and a good one
    worker = serve(stores)
    bad, good = submit(stores), submit(stores)
    with database.write() as connection:
        nonsense = "'{no JSON'" if database.is_sqlite else "'[7]'"
        connection.exec_driver_sql(f"UPDATE jobs SET options = {nonsense} WHERE id = '{bad}'")
    # When both are claimed by one message
    claims = {one.job_id: one for one in claim(stores, good, 0, worker, PLENTY)}
    # Then the good one is as ever, and the bad one's are none that a job can have
    assert set(claims) == {bad, good}
    assert claims[good].options == stores.jobs.get(good).options
    with pytest.raises(InvalidOption):
        JobOptions.from_dict(claims[bad].options)


def test_a_lease_that_somebody_has_locked_keeps_no_other_from_coming_back(stores: Stores, database: Database) -> None:
    if database.is_sqlite:
        return  # which has one lock for everything, and nobody vanishes with it
    # Given two leases whose time is over, one of them in the midst of a commit whose host has vanished
    worker = serve(stores)
    job_id = submit(stores, 2)
    for number in range(2):
        claim(stores, job_id, number, worker)
        set_chunk(database, job_id, number, lease_expires=now_ms() - 1)
    with database.write() as connection:
        mine = (ChunkRow.job_id == job_id, ChunkRow.number == 0)
        connection.execute(select(ChunkRow.number).where(*mine).with_for_update())
        # Then the other one comes back at once
        assert stores.leases.release_expired() == 1
        assert chunk_states(database, job_id) == ["leased", "pending"]
    # And that one when it is free
    assert stores.leases.release_expired() == 1
