"""What a process leaves of a batch when it is cut off, or was of another version, is in nobody's way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select, update

from producer.api.openai.batchwork import BatchWork
from producer.api.settings import ApiSettings
from producer.client import Client
from producer.records import records_of
from storage.batchrecords import Batch, Group, Line
from storage.contract.errors import StorageUnavailable
from storage.contract.ids import new_id
from storage.contract.options import JobOptions
from storage.filetables import BatchRow, FileRow
from storage.quotas import Quota
from storage.stores import Stores
from storage.tables import JobRow
from tests.producer.test_batchwork import MODEL, Died, check, client, embed, live, settings, started
from tests.producer.test_late_batchwork import Before

__all__ = ["client", "settings"]


def jobs(stores: Stores) -> list[str]:
    with stores.database.read() as connection:
        return list(connection.execute(select(JobRow.id)).scalars())


def made_before(client: Client, batch: Batch, group: int, kind: str = "batch") -> str:
    """Make the job of a group as a version with other defaults did; return its id."""
    return client.submit_records(
        records_of(["chaff"], None),
        with_ids=False,
        model=MODEL,
        idempotency_key=f"{batch.id}:{group}",
        kind=kind,
        options=JobOptions(normalize=False),
    ).id


@pytest.mark.parametrize("reason", ["stop", "outage"])
def test_whoever_is_cut_off_while_writing_a_batch_leaves_no_file(
    client: Client, settings: ApiSettings, reason: str
) -> None:
    # Given a batch whose jobs are done
    stores = client.stores
    batch = started(stores)
    BatchWork(client, settings).look()
    embed(stores)

    def cut_off() -> None:
        if reason == "outage":
            raise StorageUnavailable("The database does not answer.")
        work._stopping = True

    # When its process stops in the midst of writing, or the database is away for a moment
    client._stores = replace(stores, results=Before(stores.results, "pages", cut_off))  # type: ignore[arg-type]
    work = BatchWork(client, settings)
    work.look()
    assert stores.batches.get(batch.id).state == "finalizing"
    # Then nothing is left that would lie there unseen
    with stores.database.read() as connection:
        assert connection.execute(select(FileRow.id).where(FileRow.purpose == "batch_output")).first() is None
    # And the next one ends it
    client._stores = stores
    BatchWork(client, settings).look()
    check(stores, batch)


def test_a_job_of_other_options_under_a_batchs_key_gives_way(client: Client, settings: ApiSettings) -> None:
    # Given a batch, the first job of which a process of a version before has made, with other defaults, and not noted
    stores = client.stores
    batch = started(stores)
    made_before(client, batch, 0)
    # When it is worked at, then it is done as it is read today, and the earlier job is gone
    live(client, settings, stores)
    check(stores, batch)


def test_a_job_of_the_callers_own_under_a_batchs_key_stays(client: Client, settings: ApiSettings) -> None:
    stores = client.stores
    batch = started(stores)
    own = made_before(client, batch, 0, kind="job")
    BatchWork(client, settings).look()
    done = stores.batches.get(batch.id)
    assert done.state == "failed" and done.errors is not None
    assert done.errors["data"][0]["code"] == "idempotency_conflict"
    assert jobs(stores) == [own] and stores.jobs.get(own).state == "queued"


def test_jobs_of_groups_that_a_batch_has_no_more_are_removed(client: Client, settings: ApiSettings) -> None:
    # Given a batch of two groups that a process read as three before it was cut off
    stores = client.stores
    batch, before = started(stores), new_id()
    assert stores.batches.claim(batch.id, before)
    lines = [Line(f"line-{number}", number, 0, 1, None, False) for number in range(3)]
    groups = [Group(number, None, MODEL, 1, 1) for number in range(3)]
    assert stores.batches.keep_lines(batch.id, before, lines, groups)
    made_before(client, batch, 2)
    stores.batches.release(batch.id, before)
    # When it is worked at, then no job is left
    live(client, settings, stores)
    check(stores, batch)


@pytest.mark.parametrize("was_noted", [False, True], ids=["first-try", "second-try"])
def test_a_cancelled_batch_leaves_no_job_that_was_not_noted(
    client: Client, settings: ApiSettings, was_noted: bool
) -> None:
    # Given a batch of two jobs, the second of which was perhaps refused once, as its key may have one open job
    stores = client.stores
    batch = started(stores, stores.keys.create("one", quota=Quota(jobs=1))[0].id)
    if was_noted:
        BatchWork(client, settings).look()
        embed(stores, [MODEL])
        assert [group.job_id for group in stores.batches.groups(batch.id)] == [*jobs(stores), None]

    def die() -> None:
        raise Died

    # When a process is cut off before it notes the first one, again
    client._stores = replace(stores, batches=Before(stores.batches, "set_job", die))  # type: ignore[arg-type]
    with pytest.raises(Died):
        BatchWork(client, settings).look()
    assert len(jobs(stores)) == 1 and stores.batches.groups(batch.id)[0].job_id is None
    client._stores = stores
    with stores.database.write() as connection:
        connection.execute(update(BatchRow).values(lease_expires=0))
    # And the batch is cancelled
    stores.batches.cancel(batch.id)
    for _ in range(2):
        BatchWork(client, settings).look()
    # Then it ends, and no job is left
    assert stores.batches.get(batch.id).state == "cancelled"
    assert jobs(stores) == []
