"""What a service holds of a submission, seen from behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import select

from producer.anyclient import AnyClient
from storage.tables import InputRow, JobRow
from storage.texts import unpack
from tests.service.serving import Served

#: Of the default model, a revision that nobody serves: a job for it waits, and costs nothing, until it is cancelled.
WAITS = {"revision": "feedbeef"}

#: Texts of about 120 bytes each.
MANY = [f"Sack {i} of the harvest, {'grain ' * 15}" for i in range(300)]


@contextmanager
def kept(served: Served, client: AnyClient, expected: list[str]) -> Iterator[list[str]]:
    """Check after a block that there is one job more, which holds these texts, and cancel it.

    The block appends the id of the job.
    """
    before = {status.id for status in client.jobs(100)}
    made: list[str] = []
    yield made
    after = {status.id for status in client.jobs(100)} - before
    assert after == set(made) and len(made) == 1
    texts = [text for page in _inputs(served, made[0]) for text in page]
    client.job(made[0]).cancel()
    assert texts == expected


def _inputs(served: Served, job_id: str) -> Iterator[list[str]]:
    with served.service.stores.database.read() as connection:
        rows = select(InputRow.texts).where(InputRow.job_id == job_id).order_by(InputRow.number)
        yield from (unpack(blob) for blob in connection.execute(rows).scalars())


def job_ids(served: Served) -> set[str]:
    """Return the ids of all jobs, unsealed ones too."""
    with served.service.stores.database.read() as connection:
        return set(connection.execute(select(JobRow.id)).scalars())
