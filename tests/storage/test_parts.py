"""Jobs in parts: each part as a whole or not at all, one writer at a time, and a seal that nothing slips past."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from sqlalchemy import func, select, update

from producer.parting import Parting
from storage.contract.errors import Conflict, InvalidItems, TooLarge, UnknownJob, WrongState
from storage.contract.ids import new_id
from storage.contract.states import JobState
from storage.database import Database, now_ms
from storage.parts import Part
from storage.stores import Stores
from storage.tables import ChunkRow, JobRow, PartedJobRow, PartRow
from storage.texts import hash_ids
from tests.storage.builders import chunk, new_job, serve


def opened(stores: Stores, on_invalid: str = "refuse") -> str:
    """Open a job that takes parts; return its id."""
    serve(stores)
    job = new_job(id=new_id())
    assert stores.parts.open(job, on_invalid)
    return job.id


def parting(stores: Stores, most: int = 1_000_000) -> Parting:
    return Parting(stores, 1_000, most)


def count(database: Database, row: type) -> int:
    with database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(row)).scalar_one())


def test_parts_follow_each_other_and_are_sealed(stores: Stores, database: Database) -> None:
    job_id = opened(stores)
    parts = parting(stores)
    first = parts.put(job_id, 0, [b'"wheat"\n"r', b'ye"\n'])
    second = parts.put(job_id, 1, [b'"spelt"'])
    assert (first.first, first.items, second.first, second.items) == (0, 2, 2, 1)
    assert first.sha256 == hashlib.sha256(b'"wheat"\n"rye"\n').hexdigest()
    assert stores.parts.list(job_id) == [first, second]
    # Whoever knows how many there should be is told when there are others
    for wrong in ({"parts": 1}, {"items": 4}, {"parts": 3, "items": 3}):
        with pytest.raises(Conflict, match="2 parts with 3 items"):
            stores.parts.seal(job_id, **wrong)
    assert stores.parts.seal(job_id, 2, 3)
    record = stores.jobs.get(job_id)
    assert (record.state, record.total) == (JobState.QUEUED, 3)
    assert [page.size for page in stores.results.pages(job_id)] == [2, 1]
    # Sealed again with the same, it stays as it is
    assert not stores.parts.seal(job_id, 2, 3) and not stores.parts.seal(job_id)
    with pytest.raises(Conflict):
        stores.parts.seal(job_id, items=2)
    # And no part is taken, but for one that is there
    assert parts.put(job_id, 1, [b'"spelt"']) == second
    with pytest.raises(WrongState, match="sealed"):
        parts.put(job_id, 2, [b'"oats"'])


def test_a_part_comes_again_and_again(stores: Stores) -> None:
    job_id = opened(stores)
    parts = parting(stores)
    first = parts.put(job_id, 0, [b'"wheat"'])
    assert parts.put(job_id, 0, [b'"whe', b'at"']) == first
    with pytest.raises(Conflict, match="other bytes"):
        parts.put(job_id, 0, [b'"rye"'])
    with pytest.raises(Conflict, match="Part 2 is not due") as told:
        parts.put(job_id, 2, [b'"rye"'])
    assert "part 1" in str(told.value.remedy)
    assert stores.parts.list(job_id) == [first]


def test_what_is_cut_is_gone_and_the_part_is_still_due(stores: Stores, database: Database) -> None:
    job_id = opened(stores)
    parts = parting(stores, most=3_000_000)
    parts.put(job_id, 0, [b'"wheat"'])

    def cut() -> object:
        yield b'"' + b"rye " * 200 + b'"\n'
        for _ in range(3000):
            yield b'"' + b"rye " * 200 + b'"\n'
        # Some of it is written
        assert count(database, ChunkRow) > 1
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        parts.put(job_id, 1, cut())  # type: ignore[arg-type]
    assert count(database, ChunkRow) == 1
    part = parts.put(job_id, 1, [b'"oats"'])
    assert (part.first, part.chunk_end) == (1, 2)
    with pytest.raises(TooLarge, match="3,000,000"):
        parts.put(job_id, 2, (b'"' + b"rye " * 10_000 + b'"\n' for _ in range(100)))
    assert count(database, ChunkRow) == 2


def test_what_a_killed_process_has_left_of_a_part_goes_with_the_next_writer(stores: Stores, database: Database) -> None:
    # Given a writer that was killed after some chunks of part 1
    job_id = opened(stores)
    parts = parting(stores)
    parts.put(job_id, 0, [b'"wheat"'])
    killed = stores.parts.begin(job_id)
    stores.parts.append(killed, [chunk(number, first=1 + 2 * number) for number in range(1, 100)])
    assert count(database, ChunkRow) == 100
    # When the same part comes again, or the job is sealed
    taking = stores.parts.begin(job_id)
    # Then what it left is gone, and should it have been alive after all, it writes nothing any more
    assert count(database, ChunkRow) == 1
    with pytest.raises(Conflict, match="Another request"):
        stores.parts.append(killed, [chunk(1)])
    with pytest.raises(Conflict, match="Another request"):
        stores.parts.finish(killed, [], Part(1, 1, 198, 100, "0" * 64), False)
    stores.parts.append(taking, [chunk(1, first=1)])
    assert stores.parts.seal(job_id)
    assert (stores.jobs.get(job_id).total, count(database, ChunkRow)) == (1, 1)
    # And whoever writes while it is sealed is told so
    with pytest.raises(WrongState, match="no more parts"):
        stores.parts.finish(taking, [], Part(1, 1, 2, 2, "0" * 64), False)


def test_an_id_comes_only_once_in_all_parts(stores: Stores) -> None:
    job_id = opened(stores)
    parts = parting(stores)
    parts.put(job_id, 0, [b'{"id": "a", "text": "wheat"}'])
    again = [b'{"id": "b", "text": "rye"}\n{"id": "a", "text": "oats"}']
    # Both by what is remembered, and by what is written
    for taker in (parts, parting(stores), parts):
        with pytest.raises(InvalidItems) as told:
            taker.put(job_id, 1, again)
        assert [(one.position, one.where, one.reason) for one in told.value.problems] == [
            (2, "line 2", "the id has come before")
        ]
    with pytest.raises(InvalidItems, match="the id is missing"):
        parts.put(job_id, 1, [b'"rye"'])
    parts.put(job_id, 1, [b'{"id": "b", "text": "rye"}'])
    assert stores.jobs.get(job_id).has_ids
    assert [page.ids for page in stores.results.pages(job_id)] == [["a"], ["b"]]


def test_invalid_items_are_kept_where_that_was_asked_for(stores: Stores) -> None:
    job_id = opened(stores, on_invalid="keep")
    assert parting(stores).put(job_id, 0, [b'"wheat"\n7\nnull\n""']).items == 4
    stores.parts.seal(job_id)
    assert stores.statuses.get(job_id).failed == 3


def test_jobs_that_take_no_parts(stores: Stores) -> None:
    serve(stores)
    plain = new_job()
    stores.jobs.create(plain)
    parts = parting(stores)
    for act in (
        lambda: parts.put(plain.id, 0, [b'"wheat"']),
        lambda: stores.parts.list(plain.id),
        lambda: stores.parts.seal(plain.id),
        lambda: stores.parts.begin(plain.id),
    ):
        with pytest.raises(WrongState, match="not submitted in parts"):
            act()
    with pytest.raises(UnknownJob):
        stores.parts.seal(new_id())
    empty = opened(stores)
    with pytest.raises(WrongState, match="no parts yet"):
        stores.parts.seal(empty)


def test_an_item_of_a_part_that_was_cut_off_is_not_found_while_its_texts_are_still_there(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a part with ids that was cut off, for whose removal there was no room
    job_id = opened(stores)
    taking = stores.parts.begin(job_id)
    ids = ["sack-1"]
    stores.parts.append(taking, [replace(chunk(0, ("wheat",)), ids=ids, id_hashes=hash_ids(ids))])
    assert stores.results.find(job_id, "sack-1") is not None
    with monkeypatch.context() as full:
        full.setattr(stores.parts, "_clean", lambda taking: False)
        stores.parts.drop(taking)
    # When one of its items is sought, then there is none
    assert stores.results.find(job_id, "sack-1") is None


def test_a_key_opens_one_job(stores: Stores) -> None:
    job_id = new_id()
    serve(stores)
    assert stores.parts.open(new_job(id=job_id), "keep", "hash", "key")
    assert not stores.parts.open(new_job(), "keep", "hash", "key")
    found = stores.jobs.find_by_key("key")
    assert found is not None and (found.id, found.payload_hash) == (job_id, "hash")
    # And the key is still the job's when it is sealed
    parting(stores).put(job_id, 0, [b'"wheat"'])
    stores.parts.seal(job_id)
    assert not stores.parts.open(new_job(), "keep", "hash", "key")


def test_the_key_of_a_job_that_is_deleted_is_free_before_the_last_of_its_texts_is_gone(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an open job with a key, whose owner deletes it, and whose removal is cut off
    job = new_job(id=new_id())
    serve(stores)
    assert stores.parts.open(job, "keep", "hash", "key")
    parting(stores).put(job.id, 0, [b'"wheat"'])
    with monkeypatch.context() as cut:
        cut.setattr(stores.purges, "purge", lambda job_id: None)
        assert stores.purges.discard(job.id)
    # When another one is opened with the same key, then it is
    assert stores.parts.open(new_job(id=new_id()), "keep", "another hash", "key")


def test_a_job_whose_producer_is_gone_goes_with_all_its_parts(stores: Stores, database: Database) -> None:
    job_id = opened(stores)
    parting(stores).put(job_id, 0, [b'"wheat"'])
    with database.write() as connection:
        connection.execute(update(JobRow).values(touched_at=now_ms() - 100_000))
    stores.purges.mark(abandoned_after=60_000)
    with pytest.raises(WrongState):
        stores.parts.begin(job_id)
    stores.purges.purge(job_id)
    assert [count(database, row) for row in (JobRow, ChunkRow, PartRow, PartedJobRow)] == [0, 0, 0, 0]
