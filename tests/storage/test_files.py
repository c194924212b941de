"""The stores of files and uploads, over both databases."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from sqlalchemy import event, func, select, update

from storage.contract.errors import Conflict, NotFound, QuotaExceeded
from storage.database import Database
from storage.files import StoredFile
from storage.filetables import FileBlockRow, FileRow, UploadRow
from storage.filewriter import BLOCK
from storage.quotas import Quota
from storage.stores import Stores


def kept(stores: Stores, content: bytes, name: str = "grain.jsonl", owner: str = "", life: int | None = None) -> str:
    writer = stores.files.open(name, "batch", owner, life=life)
    writer.write(content)
    writer.close()
    return writer.id


def content(stores: Stores, file: StoredFile) -> bytes:
    return b"".join(stores.files.content(file))


def blocks(database: Database) -> int:
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(FileBlockRow)).scalar_one()


def test_a_file_is_kept_in_blocks_and_read_as_it_was_written(stores: Stores, database: Database) -> None:
    written = bytes(range(256)) * 10_000
    writer = stores.files.open("grain.jsonl", "batch", "miller")
    # Nobody sees it before it is whole
    for start in range(0, len(written), 300_000):
        writer.write(written[start : start + 300_000])
        with pytest.raises(NotFound):
            stores.files.get(writer.id)
    writer.close()
    file = stores.files.get(writer.id)
    assert (file.size, file.sha256) == (len(written), hashlib.sha256(written).hexdigest())
    assert content(stores, file) == written
    assert blocks(database) == -(-len(written) // BLOCK)


def test_a_key_keeps_as_many_bytes_as_it_may_however_many_files_come_at_once(
    stores: Stores, database: Database
) -> None:
    # Given a key for three blocks, a file of one, and another on its way that has one by now
    owner = stores.keys.create("small", quota=Quota(stored_bytes=3 * BLOCK))[0].id
    first = kept(stores, bytes(BLOCK), owner=owner)
    under_way = stores.files.open("rye.jsonl", "batch", owner)
    under_way.write(bytes(BLOCK))
    # When a third comes that would make it more than three, then it is refused in its midst, and leaves nothing
    third = stores.files.open("oats.jsonl", "batch", owner)
    third.write(bytes(BLOCK))
    with pytest.raises(QuotaExceeded, match="may keep 3,145,728 bytes of files") as refused:
        third.write(bytes(BLOCK))
    assert refused.value.retry_after is None
    third.discard()
    assert blocks(database) == 2
    # And a last byte counts too, and what is deleted does not
    under_way.write(bytes(BLOCK + 1))
    with pytest.raises(QuotaExceeded):
        under_way.close()
    stores.files.delete(first)
    under_way.close()
    assert stores.files.get(under_way.id).size == 2 * BLOCK + 1
    # And nobody else is held to it
    kept(stores, bytes(4 * BLOCK), owner="baker")


def test_the_parts_of_an_upload_count_once_and_so_does_what_becomes_of_them(stores: Stores) -> None:
    owner = stores.keys.create("small", quota=Quota(stored_bytes=10))[0].id
    upload = stores.uploads.create("grain.jsonl", "batch", 10, owner)
    parts = []
    for content in (b"wheat", b"barle"):
        part = stores.files.open("part", "batch", owner, upload_id=upload.id)
        part.write(content)
        part.close()
        parts.append(part.id)
    # When they become a file, then that is all that the key keeps, and is as much as it may
    assert stores.files.join(upload.id, parts) is not None
    with pytest.raises(QuotaExceeded, match="would make it 11"):
        kept(stores, b"y", owner=owner)


def test_what_nobody_sees_and_nobody_goes_on_with_is_not_counted(stores: Stores, database: Database) -> None:
    # Given a key for one block, and what processes that were killed left of a batch's files: whole, and half written
    owner = stores.keys.create("small", quota=Quota(stored_bytes=BLOCK))[0].id
    output, failures = (stores.files.open(name, "batch_output", owner, state="written") for name in ("a", "b"))
    for writer in (output, failures):
        writer.write(bytes(BLOCK))
    output.close()
    # Then there is room for a file, which counts while it comes
    slow = stores.files.open("rye.jsonl", "batch", owner)
    slow.write(bytes(BLOCK))
    with pytest.raises(QuotaExceeded):
        kept(stores, b"y", owner=owner)
    # When it has been coming for hours, then it counts no more
    with database.write() as connection:
        earlier = FileRow.created_at - 3 * 3_600_000
        connection.execute(update(FileRow).where(FileRow.id == slow.id).values(created_at=earlier))
    quick = kept(stores, b"y", owner=owner)
    # And when it is whole at last, then it is asked for
    with pytest.raises(QuotaExceeded):
        slow.close()
    stores.files.delete(quick)
    slow.close()
    assert stores.files.get(slow.id).size == BLOCK


def test_what_a_batch_writes_is_not_refused_and_the_next_batch_is(stores: Stores) -> None:
    # Given a key that may keep ten bytes, with a file of them
    owner = stores.keys.create("small", quota=Quota(stored_bytes=10))[0].id
    file_id = kept(stores, b"0123456789", owner=owner)
    stores.batches.create(file_id, "/v1/embeddings", "24h", 86_400, key_id=owner)
    # When its batch writes more than that, then it is written
    output = stores.files.open("output.jsonl", "batch_output", owner)
    output.write(b"vectors")
    output.close()
    # And there is no further batch before something is deleted
    with pytest.raises(QuotaExceeded):
        stores.batches.create(file_id, "/v1/embeddings", "24h", 86_400, key_id=owner)
    assert len(stores.batches.page(10)) == 1
    stores.files.delete(output.id)
    stores.batches.create(file_id, "/v1/embeddings", "24h", 86_400, key_id=owner)


def test_a_large_file_goes_in_small_steps_and_one_that_was_cut_off_is_taken_up(
    stores: Stores, database: Database
) -> None:
    # Given a large file, and a power cut that comes while its blocks are removed
    file_id = kept(stores, bytes(20 * BLOCK))
    removed: list[int] = []

    def look(connection: object, cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith("DELETE FROM file_blocks"):
            removed.append(cursor.rowcount)
            if len(removed) == 2:
                raise ConnectionError

    event.listen(database.engine, "after_cursor_execute", look)
    with pytest.raises(ConnectionError):
        stores.files.delete(file_id)
    # Then it is unknown, and what is left of it goes with the next sweep, a few blocks in each transaction
    with pytest.raises(NotFound):
        stores.files.get(file_id)
    assert blocks(database) == 12
    assert stores.files.sweep() == 1 and stores.files.sweep() == 0
    assert blocks(database) == 0 and max(removed) == 8
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(FileRow)).scalar_one() == 0


def test_an_owner_sees_his_own_files_alone(stores: Stores) -> None:
    mine, other = kept(stores, b"rye", owner="miller"), kept(stores, b"oats", owner="baker")
    assert [file.id for file in stores.files.page(10, sees="miller")] == [mine]
    assert [file.id for file in stores.files.page(10)] == [other, mine]
    with pytest.raises(NotFound):
        stores.files.get(other, "miller")
    with pytest.raises(NotFound):
        stores.files.delete(other, "miller")


def test_a_file_whose_time_is_over_is_gone_and_then_swept(stores: Stores, database: Database) -> None:
    gone, stays = kept(stores, b"rye", life=0), kept(stores, b"oats", life=3600)
    assert [file.id for file in stores.files.page(10)] == [stays]
    with pytest.raises(NotFound):
        stores.files.get(gone)
    assert stores.files.sweep() == 1
    assert blocks(database) == 1


def test_a_file_whose_writer_is_gone_is_swept_a_day_later(stores: Stores, database: Database) -> None:
    writer = stores.files.open("grain.jsonl", "batch")
    writer.write(b"x" * BLOCK)
    assert stores.files.sweep() == 0
    with database.write() as connection:
        connection.execute(update(FileRow).values(created_at=FileRow.created_at - 25 * 3_600_000))
    assert stores.files.sweep() == 1
    assert blocks(database) == 0
    with pytest.raises(Conflict):
        writer.close()


def test_a_file_that_a_batch_is_reading_stays(stores: Stores) -> None:
    file_id = kept(stores, b"{}")
    stores.batches.create(file_id, "/v1/embeddings", "24h", 86_400)
    with pytest.raises(Conflict):
        stores.files.delete(file_id)
    assert stores.files.get(file_id).size == 2


def test_parts_become_a_file_without_being_moved_and_go_with_it(stores: Stores, database: Database) -> None:
    upload = stores.uploads.create("grain.jsonl", "batch", 8, "miller", life=3600)
    parts = []
    for data in (b"oats", b"rye", b"wheat"):
        writer = stores.files.open("part", "batch", "miller", upload_id=upload.id)
        writer.write(data)
        writer.close()
        parts.append(writer.id)
    assert stores.uploads.received(upload.id) == 12
    with pytest.raises(Conflict, match="announced"):
        stores.files.join(upload.id, [parts[0]])
    file = stores.files.join(upload.id, [parts[2], parts[1]])
    assert file is not None and content(stores, file) == b"wheatrye"
    assert file.expires_at is not None and file.key_id == "miller"
    assert stores.uploads.get(upload.id).state == "completed"
    # A second time it is not possible, and the part that was left out goes by itself
    with pytest.raises(NotFound):
        stores.files.join(upload.id, [parts[2], parts[1]])
    assert stores.files.sweep() == 1
    assert content(stores, file) == b"wheatrye"
    stores.files.delete(file.id)
    assert blocks(database) == 0


def test_an_upload_whose_hour_is_over_takes_nothing_more(stores: Stores, database: Database) -> None:
    upload = stores.uploads.create("grain.jsonl", "batch", 3)
    writer = stores.files.open("part", "batch", upload_id=upload.id)
    writer.write(b"rye")
    writer.close()
    with database.write() as connection:
        connection.execute(update(UploadRow).values(expires_at=UploadRow.expires_at - 3_600_001))
    assert stores.uploads.get(upload.id).state == "expired"
    with pytest.raises(Conflict):
        stores.uploads.pending(upload.id)
    with pytest.raises(Conflict):
        stores.uploads.cancel(upload.id)
    assert stores.files.sweep() == 1


def test_an_upload_whose_hour_ends_while_its_parts_are_looked_at_makes_no_file(
    stores: Stores, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an upload of one part, whose hour is over by the time that the part has been read
    upload = stores.uploads.create("grain.jsonl", "batch", 3)
    writer = stores.files.open("part", "batch", upload_id=upload.id)
    writer.write(b"rye")
    writer.close()
    real = stores.files.content

    def content_then_late(file: StoredFile) -> Any:
        yield from real(file)
        with database.write() as connection:
            connection.execute(update(UploadRow).values(expires_at=0))

    monkeypatch.setattr(stores.files, "content", content_then_late)
    # When it is completed, then there is no file whose bytes could be swept away under it
    assert stores.files.join(upload.id, [writer.id]) is None
    with database.read() as connection:
        assert connection.execute(select(FileRow.state)).scalars().all() == ["part"]
