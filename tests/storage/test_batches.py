"""The store of batches, over both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from storage import batches
from storage.batchrecords import Batch, Group, Line
from storage.contract.errors import Conflict, NotFound
from storage.contract.ids import new_id
from storage.database import Database
from storage.filetables import BatchRow
from storage.stores import Stores

LINES = [Line(f"line {number}", number % 2, number // 2 * 3, 3, None, False) for number in range(2500)]
GROUPS = [Group(0, None, "mill/grain-small", 1250, 3750), Group(1, None, "mill/flour-large", 1250, 3750)]


def create(stores: Stores, owner: str = "") -> Batch:
    return stores.batches.create("file-1", "/v1/embeddings", "24h", 86_400, key_id=owner, labels={"mill": "north"})


def test_a_batch_is_kept_as_it_was_made(stores: Stores) -> None:
    made = create(stores, "miller")
    batch = stores.batches.get(made.id, "miller")
    assert (batch.state, batch.labels, batch.total, batch.is_over) == ("validating", {"mill": "north"}, 0, False)
    # (a statement may read the clock twice)
    assert batch.expires_at - batch.created_at == pytest.approx(86_400_000, abs=50_000)
    with pytest.raises(NotFound):
        stores.batches.get(made.id, "baker")
    with pytest.raises(NotFound):
        stores.batches.cancel(made.id, "baker")
    assert stores.batches.page(10, sees="baker") == []
    assert stores.batches.page(10) == [batch]


def test_lines_and_groups_come_back_in_order_and_are_replaced_as_a_whole(stores: Stores) -> None:
    batch, owner = create(stores), new_id()
    assert stores.batches.claim(batch.id, owner)
    assert stores.batches.keep_lines(batch.id, owner, LINES[:7], GROUPS[:1])
    assert stores.batches.keep_lines(batch.id, owner, LINES, GROUPS)
    assert list(stores.batches.lines(batch.id)) == LINES
    assert stores.batches.groups(batch.id) == GROUPS
    assert stores.batches.get(batch.id).total == len(LINES)
    job = new_id()
    assert stores.batches.set_job(batch.id, 1, job)
    assert [group.job_id for group in stores.batches.groups(batch.id)] == [None, job]
    # And one who has lost the right to the batch replaces nothing
    assert not stores.batches.keep_lines(batch.id, new_id(), LINES[:7], GROUPS[:1])
    assert stores.batches.move(batch.id, owner, "in_progress")
    assert not stores.batches.keep_lines(batch.id, owner, LINES[:7], GROUPS[:1])
    assert [group.job_id for group in stores.batches.groups(batch.id)] == [None, job]
    assert not stores.batches.set_job(batch.id, 2, job)


def test_one_works_at_a_batch_until_it_is_silent_for_too_long(stores: Stores, database: Database) -> None:
    batch, first, second = create(stores), new_id(), new_id()
    assert stores.batches.claim(batch.id, first) and stores.batches.claim(batch.id, first)
    assert not stores.batches.claim(batch.id, second) and list(stores.batches.unfinished()) == []
    # When its lease runs out
    with database.write() as connection:
        connection.execute(update(BatchRow).values(lease_expires=BatchRow.lease_expires - 30_001))
    # Then another takes it, and the first can bring it nowhere
    assert [one.id for one in stores.batches.unfinished()] == [batch.id]
    assert stores.batches.claim(batch.id, second)
    assert not stores.batches.move(batch.id, first, "in_progress")
    assert stores.batches.move(batch.id, second, "in_progress")
    stores.batches.release(batch.id, first)
    assert not stores.batches.claim(batch.id, first)
    stores.batches.release(batch.id, second)
    assert stores.batches.claim(batch.id, first)


def test_however_many_batches_wait_the_last_is_found_too(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_PAGE", 2)
    waiting = [create(stores).id for _ in range(5)]
    assert [one.id for one in stores.batches.unfinished()] == waiting


def test_the_files_of_a_batch_are_seen_with_its_end_and_only_those_of_the_one_who_ended_it(stores: Stores) -> None:
    batch, owner, late = create(stores), new_id(), new_id()
    assert stores.batches.claim(batch.id, owner)
    assert stores.batches.keep_lines(batch.id, owner, LINES[:1], GROUPS[:1])
    writer = stores.files.open("output.jsonl", "batch_output", state="written")
    writer.write(b"{}")
    writer.close()
    assert stores.batches.move(batch.id, owner, "finalizing")
    told = {"completed": 1, "failed": 0, "tokens": 7, "output_file_id": writer.id, "error_file_id": None}
    # Given one who lost the right to end it
    assert not stores.batches.finish(batch.id, late, "completed", **told)
    with pytest.raises(NotFound):
        stores.files.get(writer.id)
    # When the one who has it does
    assert stores.batches.finish(batch.id, owner, "completed", **told)
    # Then batch and file are there together, and nobody ends it a second time
    assert stores.files.get(writer.id).size == 2
    ended = stores.batches.get(batch.id)
    assert (ended.state, ended.completed, ended.output_file_id) == ("completed", 1, writer.id)
    assert ended.completed_at is not None
    assert not stores.batches.finish(batch.id, owner, "completed", **told)
    # And what is left of it goes
    assert stores.batches.ended() == [batch.id]
    stores.batches.forget_lines(batch.id)
    assert stores.batches.ended() == [] and list(stores.batches.lines(batch.id)) == []


def test_a_wish_to_cancel_is_kept_and_comes_too_late_at_the_end(stores: Stores) -> None:
    batch, owner = create(stores), new_id()
    first = stores.batches.cancel(batch.id)
    assert first.cancelling_at is not None and stores.batches.cancel(batch.id) == first
    done = create(stores)
    assert stores.batches.claim(done.id, owner) and stores.batches.move(done.id, owner, "failed")
    with pytest.raises(Conflict):
        stores.batches.cancel(done.id)


def test_ends_of_batches_are_counted_once(stores: Stores) -> None:
    # Given batches that are done, fail, expire and are cancelled
    owner = new_id()
    files = {"output_file_id": None, "error_file_id": None}
    for state in ("completed", "expired", "cancelled", "completed"):
        batch = create(stores)
        assert stores.batches.claim(batch.id, owner)
        assert stores.batches.move(batch.id, owner, "in_progress")
        assert stores.batches.move(batch.id, owner, "finalizing")
        assert stores.batches.finish(batch.id, owner, state, **files)
        # And one who comes late ends it again
        assert not stores.batches.finish(batch.id, owner, state, **files)
    failed = create(stores)
    assert stores.batches.claim(failed.id, owner)
    assert stores.batches.move(failed.id, owner, "failed", errors={"data": []})
    assert not stores.batches.move(failed.id, owner, "failed", errors={"data": []})
    # Then each is told, in the database itself: a service adds nothing up from time to time
    found = stores.counters.all()
    told = [found[f"openai_batches_{state}"] for state in ("completed", "failed", "expired", "cancelled")]
    assert told == [2, 1, 1, 1]
