"""What goes into an archive, and what must come out of it."""

from __future__ import annotations

import io
from typing import Any

from sqlalchemy import select, update

from storage import archives
from storage.contract.errors import InvalidFile
from storage.contract.keeping import Keeping
from storage.contract.models import Priority
from storage.database import Database, now_ms
from storage.exporting import Exporter
from storage.quotas import Quota
from storage.stores import Stores
from storage.tables import JobRow, Row
from tests.storage.builders import accept, chunk, claim, finish, new_job, result, serve, submit

#: Tables whose rows come along; the others say who works where.
COME = sorted({table.name for table in Row.metadata.sorted_tables} - {"workers", "services", "leaders", "counters"})


def rows(database: Database, table: str) -> list[dict[str, Any]]:
    """Return all rows of a table, in order."""
    found = Row.metadata.tables[table]
    with database.read() as connection:
        return [dict(row._mapping) for row in connection.execute(select(found).order_by(*found.primary_key.columns))]


def everything(database: Database) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of the tables that come along."""
    return {table: rows(database, table) for table in COME}


def jobs_of_all_kinds(stores: Stores) -> dict[str, str]:
    """Make jobs in every state, with all that may belong to them; return their ids by what they are."""
    worker = serve(stores)
    record, _ = stores.keys.create("mill", keeping=Keeping(90, 7), quota=Quota(texts=1_000))
    made = {
        "completed": submit(
            stores, [chunk(0, ids=["oat", "rye ☃"]), chunk(1, ids=["a", "b"])], key="monday", payload="x"
        ),
        "failed": submit(stores, 1),
        "cancelled": submit(stores, 3, owner=record.id),
        "expired": submit(stores, 1),
        "running": submit(stores, 4, keeping=Keeping(30, 0)),
        "queued": submit(stores, 2, owner=record.id),
        "leased": submit(stores, 2),
    }
    finish(stores, made["completed"], 2, worker, failed=[1])
    with stores.database.write() as connection:
        connection.execute(update(JobRow).where(JobRow.id == made["expired"]).values(expires_at=now_ms() - 1))
    stores.jobs.expire()
    finish(stores, made["running"], 2, worker)
    (held,) = claim(stores, made["cancelled"], 0, worker)
    stores.leases.commit([(held, result(cut=[0], dtype="float16"))])
    stores.jobs.cancel(made["cancelled"])
    stores.jobs.fail(made["failed"], InvalidFile("No flour."))
    assert claim(stores, made["leased"], 0, worker)
    stores.chunks.dispatch(_model(stores), Priority.BULK, 1)
    stores.webhooks.rotate(record.id)
    stores.webhooks.add(made["queued"], record.id, "https://example.org/hook")
    writer = stores.files.open("lines.jsonl", "batch", record.id)
    writer.write(b'{"custom_id": "1"}\n' * 200_000)
    writer.close()
    # And what does not come along: a job that is being submitted, a call
    accept(stores, 1)
    assert stores.jobs.accept(new_job(kind="call"), [chunk(0)]) is not None
    return made


def _model(stores: Stores) -> str:
    return stores.workers.cards()[0].card.id


def as_imported(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Return what should be there after an import of these rows."""
    gone = {row["id"] for row in found["jobs"] if row["state"] == "accepting" or row["kind"] == "call"}
    wanted = {table: [row for row in some if row.get("job_id") not in gone] for table, some in found.items()}
    wanted["jobs"] = [row for row in found["jobs"] if row["id"] not in gone]
    for row in wanted["chunks"]:
        row |= {"lease_owner": None, "lease_expires": None, "dispatched_at": None}
        row["state"] = "pending" if row["state"] in ("leased", "dispatched") else row["state"]
    return wanted


def archive_of(database: Database) -> bytes:
    """Return an archive of everything."""
    target = io.BytesIO()
    archives.write(Exporter(database).everything(), target)
    return target.getvalue()
