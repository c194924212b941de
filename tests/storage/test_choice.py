"""What is sent next, over both databases."""

from __future__ import annotations

from collections import Counter
from contextlib import closing

import pytest
from sqlalchemy import event, select

from storage import claiming, underway
from storage.contract.messages import Pointer
from storage.contract.models import Priority
from storage.database import Database
from storage.leases import LEASE
from storage.migrations import migrate
from storage.stores import Stores
from storage.tables import CHUNK_IS_PENDING, ChunkRow
from tests.storage.builders import ALONE, CARD, chunk, claim, serve, serve_for_long, submit

BULK = Priority.BULK


def sent(stores: Stores) -> list[str]:
    """Send what the window has room for; return the jobs, in order."""
    return [pointer.job_id for pointer in stores.chunks.dispatch(CARD.id, BULK)]


def done(stores: Stores, worker: str, pointers: list[Pointer]) -> None:
    """Claim what was sent, so that the window is free again."""
    for pointer in pointers:
        assert stores.leases.claim(pointer, worker, CARD.id, ALONE)


def test_keys_share_what_is_under_way_whoever_came_first(stores: Stores) -> None:
    # Given a large job of one key, and then large ones of two others
    serve(stores)
    jobs = {owner: submit(stores, 40, owner=owner) for owner in ("early", "later", "last")}
    # When three workers' windows are filled
    serve(stores)
    serve(stores)
    shares = Counter(sent(stores))
    # Then each has a third
    assert shares == {job_id: 4 for job_id in jobs.values()}


def test_who_has_less_under_way_goes_first(stores: Stores) -> None:
    worker = serve(stores)
    first = submit(stores, 40, owner="greedy")
    done(stores, worker, stores.chunks.dispatch(CARD.id, BULK))
    second = submit(stores, 40, owner="modest")
    assert sent(stores).count(second) == 2 and first is not None
    # And with one place free, it goes to the key that has fewer chunks leased
    done(stores, worker, [Pointer(second, 0)])
    (pointer,) = stores.chunks.dispatch(CARD.id, BULK)
    assert pointer.job_id == second


def test_what_is_under_way_is_counted_once_a_second_and_not_with_each_message(
    stores: Stores, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given large jobs of three keys, a machine that may be slow, and statements that are listened to
    monkeypatch.setattr(underway, "_BELIEVED", 3600.0)
    worker = serve_for_long(stores)
    jobs = {submit(stores, 40, owner=owner): owner for owner in ("early", "later", "last")}
    asked: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
    # When message after message is sent, one at a time
    shares: Counter[str] = Counter()
    for _ in range(12):
        pointers = stores.chunks.dispatch(CARD.id, BULK, 1)
        shares.update(jobs[pointer.job_id] for pointer in pointers)
        done(stores, worker, pointers)
    # Then it was counted once, and each key has had its share all the same
    assert len([told for told in asked if "GROUP BY jobs.key_id" in told]) == 1
    assert set(shares.values()) == {4}


def test_room_that_a_key_cannot_use_goes_to_the_others(stores: Stores) -> None:
    serve(stores)
    small, large = submit(stores, 1, owner="small"), submit(stores, 40, owner="large")
    assert Counter(sent(stores)) == {small: 1, large: 3}


def test_a_small_job_does_not_wait_for_a_large_one_of_the_same_key(stores: Stores) -> None:
    worker = serve_for_long(stores)
    large = submit(stores, 200)
    done(stores, worker, stores.chunks.dispatch(CARD.id, BULK))
    small = submit(stores, 2)
    # Then within a few turns, not after two hundred chunks, it is sent; and the large one goes on beside it
    seen: Counter[str] = Counter()
    for _ in range(20):
        pointers = stores.chunks.dispatch(CARD.id, BULK)
        seen.update(pointer.job_id for pointer in pointers)
        done(stores, worker, pointers)
    assert seen[small] == 2 and seen[large] == 78


def test_a_stream_of_small_jobs_does_not_starve_a_large_one(stores: Stores) -> None:
    worker = serve_for_long(stores)
    large = submit(stores, 50)
    seen: Counter[str] = Counter()
    for _ in range(60):
        for _ in range(4):
            submit(stores, 1)
        pointers = stores.chunks.dispatch(CARD.id, BULK)
        seen.update(pointer.job_id for pointer in pointers)
        done(stores, worker, pointers)
    assert seen[large] > 0


def test_a_claim_locks_no_more_chunks_than_it_has_room_for(postgres_url: str) -> None:
    with closing(Database(postgres_url)) as database:
        migrate(database)
        stores = Stores.on(database)
        worker, job_id = serve(stores), submit(stores, 40)
        free = select(ChunkRow.number).where(CHUNK_IS_PENDING).with_for_update(skip_locked=True)
        # Given a claim on its way that has room for three chunks of twenty tokens
        with database.write() as claiming_it:
            held = claiming.claim(claiming_it, Pointer(job_id, 0), worker, CARD.id, LEASE, 60)
            assert len(held) == 3
            # When others look for chunks meanwhile, then nearly all are theirs to take
            with database.write() as other:
                assert len(other.execute(free).all()) >= 36


def test_a_claim_takes_many_small_chunks_beside_a_large_one(stores: Stores) -> None:
    # Given a large chunk, and many small ones behind it
    worker = serve(stores)
    large = chunk(0, ("rye",), token_estimate=1_000)
    small = [chunk(number, ("oat",), token_estimate=1) for number in range(1, 31)]
    job_id = submit(stores, [large, *small])
    # Then all of them come with it
    assert len(claim(stores, job_id, 0, worker, 2_500)) == 31
