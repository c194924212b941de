"""What a refusal for too many open jobs says, and what that costs others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import event, update

from storage.database import Database
from storage.stores import Stores
from storage.tables import JobRow
from tests.storage.builders import claim, new_job, result, serve, submit
from tests.storage.test_quotas import limited, quick, refused


@pytest.mark.parametrize(
    "submit_one",
    [
        lambda stores, key: quick(stores, key),
        lambda stores, key: stores.jobs.create(new_job(key_id=key)),
        lambda stores, key: stores.parts.open(new_job(key_id=key), "refuse"),
    ],
    ids=["whole", "streamed", "in parts"],
)
def test_no_chunk_is_read_while_a_key_that_is_refused_is_locked(
    stores: Stores, database: Database, submit_one: Callable[[Stores, str], object]
) -> None:
    # Given a key that has as many jobs as it may, one of them begun
    worker, key = serve(stores), limited(stores, jobs=1)
    job_id = submit(stores, 2, owner=key)
    (held,) = claim(stores, job_id, 0, worker)
    stores.leases.commit([(held, result())])
    asked: list[str] = []
    listen = lambda *told: asked.append(told[2])  # noqa: E731
    event.listen(database.engine, "before_cursor_execute", listen)
    event.listen(database.engine, "rollback", lambda _: asked.append("ROLLBACK"))
    # When it submits another one
    refused(lambda: submit_one(stores, key))
    event.remove(database.engine, "before_cursor_execute", listen)
    # Then between the lock of its row and the end of the transaction no chunk is read, but when that is over
    locked = next(place for place, told in enumerate(asked) if "FROM quotas" in told)
    over = asked.index("ROLLBACK", locked)
    assert not [told for told in asked[locked:over] if "FROM chunks" in told or "JOIN chunks" in told]
    assert [told for told in asked[over:] if "JOIN chunks" in told]


def test_the_chunks_of_a_huge_job_are_not_added_up_for_a_refusal(stores: Stores, database: Database) -> None:
    # Given a key whose one job has begun, and has more chunks than are counted while somebody waits
    worker, key = serve(stores), limited(stores, jobs=1)
    job_id = submit(stores, 2, owner=key)
    (held,) = claim(stores, job_id, 0, worker)
    stores.leases.commit([(held, result())])
    with database.write() as connection:
        connection.execute(update(JobRow).where(JobRow.id == job_id).values(chunk_count=10_001))
    # When another one is refused, then it hears a late time
    assert refused(lambda: quick(stores, key)).retry_after == 3600
