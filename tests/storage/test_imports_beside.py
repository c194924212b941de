"""Jobs that come into a database in which somebody works already, from one in which somebody works too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, update

from storage.contract.keeping import Keeping
from storage.database import Database, now_ms
from storage.exporting import Exporter
from storage.filetables import FileBlockRow
from storage.importing import Imported, Importer
from storage.sheets import Sheet
from storage.stores import Stores
from storage.tables import JobRow
from tests.storage.builders import CARD, finish, serve, submit


@pytest.fixture
def elsewhere(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Stores]:
    """Another database, which is empty."""
    path = tmp_path / "elsewhere.sqlite3"
    path.write_bytes(migrated_sqlite.read_bytes())
    with closing(Database(f"sqlite:///{path}")) as database:
        yield Stores.on(database)


def before_jobs(sheets: Iterable[Sheet], happening: object) -> Iterator[Sheet]:
    """Yield sheets; just before the first job comes, something happens where they go, or where they come from."""
    for sheet in sheets:
        if sheet.role == "begin" and happening is not None:
            happening()  # type: ignore[operator]
            happening = None
        yield sheet


def test_whom_an_end_is_told_to_is_not_forgotten_before_the_job_has_come(
    stores: Stores, database: Database, elsewhere: Stores
) -> None:
    # Given a job whose end is told, and a service that tidies up where it goes
    serve(stores)
    job_id = submit(stores, 1)
    stores.webhooks.add(job_id, "", "https://example.org/hook")
    # When it does so before the job has come
    sheets = before_jobs(Exporter(database).everything(), elsewhere.webhooks.tidy)
    assert Importer(elsewhere.database).take(sheets).jobs == 1
    elsewhere.webhooks.tidy()
    # Then it is told there
    assert [webhook.url for webhook in elsewhere.webhooks.of_job(job_id)] == ["https://example.org/hook"]


def test_a_batch_is_not_seen_before_its_jobs_have_come(stores: Stores, database: Database, elsewhere: Stores) -> None:
    # Given a batch at work and one that is done
    serve(stores)
    open_batch, done = (stores.batches.create("file-1", "/v1/embeddings", "24h", 86_400).id for _ in range(2))
    owner = submit(stores, 1)
    for batch_id, state in ((open_batch, "in_progress"), (done, "failed")):
        assert stores.batches.claim(batch_id, owner)
        assert stores.batches.move(batch_id, owner, state)
    seen: list[list[str]] = []
    # When whoever works there looks for batches before the jobs have come
    sheets = before_jobs(
        Exporter(database).everything(), lambda: seen.append([batch.id for batch in elsewhere.batches.unfinished()])
    )
    Importer(elsewhere.database).take(sheets)
    # Then there is none whose jobs would be missed, and in the end both are there
    assert seen == [[]]
    assert [batch.id for batch in elsewhere.batches.unfinished()] == [open_batch]
    assert elsewhere.batches.get(done).state == "failed"


def test_a_job_of_a_model_that_came_after_the_models_were_read_comes_with_it(
    stores: Stores, database: Database, elsewhere: Stores
) -> None:
    serve(stores)
    submit(stores, 1)
    newer = replace(CARD, revision="a1b2c3d")

    def upgraded() -> None:
        serve(stores, newer)
        submit(stores, 1, newer)

    assert Importer(elsewhere.database).take(before_jobs(Exporter(database).everything(), upgraded)).jobs == 2
    assert {served.card.revision for served in elsewhere.workers.cards()} == {CARD.revision, "a1b2c3d"}


def test_a_job_that_finds_its_model_while_it_is_read_comes_as_of_that_model(
    stores: Stores, database: Database, elsewhere: Stores
) -> None:
    # Given a job whose model nobody has served
    job_id = submit(stores, 40, None)

    def served() -> Iterator[Sheet]:
        for told, sheet in enumerate(Exporter(database).jobs([job_id])):
            yield sheet
            # When it is bound to one while it is read
            if told == 1:
                serve(stores)
                with database.write() as connection:
                    connection.execute(update(JobRow).where(JobRow.id == job_id).values(model_id=CARD.id))

    # Then it comes as bound: another model of that name would else go on with it
    assert Importer(elsewhere.database).take(served()) == Imported(1, 0, 80)
    assert elsewhere.jobs.get(job_id).model_id == CARD.id


def test_nothing_comes_of_a_file_that_is_being_uploaded(stores: Stores, database: Database, elsewhere: Stores) -> None:
    whole, half = (stores.files.open("lines.jsonl", "batch") for _ in range(2))
    for writer in (whole, half):
        writer.write(b"chaff" * 500_000)
    whole.close()
    Importer(elsewhere.database).take(Exporter(database).everything())
    assert b"".join(elsewhere.files.content(elsewhere.files.get(whole.id))) == b"chaff" * 500_000
    with elsewhere.database.read() as connection:
        assert set(connection.execute(select(FileBlockRow.file_id)).scalars()) == {whole.id}


def test_a_job_that_is_being_deleted_comes_anew(stores: Stores, database: Database) -> None:
    # Given an exported job whose deletion was cut off after its first step
    worker = serve(stores)
    job_id = submit(stores, 3)
    finish(stores, job_id, 3, worker)
    sheets = list(Exporter(database).jobs([job_id]))
    with database.write() as connection:
        connection.execute(update(JobRow).where(JobRow.id == job_id).values(deleted_at=now_ms()))
    assert stores.jobs.list_ids() == []
    # When it is imported, then it is there, whole
    assert Importer(database).take(sheets) == Imported(1, 0, 6)
    assert stores.statuses.get(job_id).succeeded == 6


def test_a_job_out_of_an_archive_that_is_past_its_time_is_kept_as_long_again(
    stores: Stores, database: Database, elsewhere: Stores
) -> None:
    # Given an archive of a job that was to be kept for a day, and two days later
    worker = serve(stores)
    over, kept = (submit(stores, 1, keeping=Keeping(1, None)) for _ in range(2))
    for job_id in (over, kept):
        finish(stores, job_id, 1, worker)
    with database.write() as connection:
        past = {"finished_at": JobRow.finished_at - 172_800_000, "kept_until": JobRow.kept_until - 172_800_000}
        connection.execute(update(JobRow).where(JobRow.id == over).values(past))
    # When it is imported, and what is due is removed
    done = Importer(elsewhere.database, renewing=True).take(Exporter(database).jobs([over, kept]))
    assert done == Imported(2, 0, 4, renewed=1)
    assert elsewhere.purges.mark(60_000) == 0
    # Then it is there for a day from now, and the other one as long as it was promised
    until = {job_id: elsewhere.statuses.get(job_id).kept_until for job_id in (over, kept)}
    assert until[kept] == stores.statuses.get(kept).kept_until
    assert (until[over] or "") >= (until[kept] or "")
    # And where a database moves, what is due is due
    assert Importer(database).take(Exporter(database).jobs([over])).there == 1
