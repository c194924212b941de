"""Small jobs, workers and results for the tests of the stores, made as producers and workers make them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sqlalchemy import select, update

from storage import texts as packing
from storage.attempts import Claim
from storage.chunks import NewChunk
from storage.contract.ids import new_id
from storage.contract.keeping import FOR_EVER, Keeping
from storage.contract.messages import Pointer
from storage.contract.models import ModelCard, Priority
from storage.contract.options import JobOptions
from storage.database import Database, now_ms
from storage.newjobs import NewJob
from storage.outcomes import ItemError
from storage.results import ChunkResult
from storage.stores import Stores
from storage.tables import ChunkRow, WorkerRow

MODEL = "mill/grain-small"
CARD = ModelCard(MODEL, "5f1c0de", "float32", 4, 128, 2, "mean", True)
OTHER = replace(CARD, name="mill/flour-large")

#: Room for the chunk of the message alone.
ALONE = 0
PLENTY = 1_000_000


def serve(stores: Stores, card: ModelCard = CARD) -> str:
    """Register a worker of a model; return its id."""
    worker = new_id()
    stores.workers.register(card, worker, host="millhouse", pid=4711, device="cpu")
    return worker


def serve_for_long(stores: Stores) -> str:
    """Register a worker that seems alive for an hour, although nobody notes that it is; return its id."""
    worker = serve(stores)
    with stores.database.write() as connection:
        connection.execute(update(WorkerRow).where(WorkerRow.id == worker).values(last_seen=now_ms() + 3_600_000))
    return worker


def chunk(number: int, texts: Sequence[str] = ("wheat", "rye"), first: int | None = None, **given: Any) -> NewChunk:
    """Return a chunk of as many items as texts, whose estimate is 10 tokens an item."""
    fields: dict[str, Any] = {"token_estimate": 10 * len(texts), "ids": None, "invalid": {}} | given
    fields["id_hashes"] = packing.hash_ids(fields["ids"]) if fields["ids"] else None
    begin = number * len(texts) if first is None else first
    return NewChunk(number, begin, [text.encode() for text in texts], **fields)


def submit(
    stores: Stores,
    chunks: int | Sequence[NewChunk] = 1,
    card: ModelCard | None = CARD,
    *,
    model: str = MODEL,
    revision: str | None = None,
    priority: Priority = Priority.BULK,
    key: str | None = None,
    payload: str | None = None,
    owner: str = "",
    keeping: Keeping = FOR_EVER,
) -> str:
    """Submit a job of two-item chunks, or of these; return its id."""
    job_id = accept(
        stores, chunks, card, model=model, revision=revision, priority=priority, owner=owner, keeping=keeping
    )
    written = made(chunks)
    assert stores.jobs.seal(job_id, sum(len(c.texts) for c in written), len(written), payload, key)
    return job_id


def new_job(**given: Any) -> NewJob:
    """Return a job that is about to be submitted, of the default model unless something else is given."""
    fields = {"id": new_id(), "model": MODEL, "revision": None, "model_id": CARD.id, "options": JobOptions().to_dict()}
    return NewJob(**(fields | given))


def accept(
    stores: Stores,
    chunks: int | Sequence[NewChunk] = 1,
    card: ModelCard | None = CARD,
    *,
    model: str = MODEL,
    revision: str | None = None,
    priority: Priority = Priority.BULK,
    owner: str = "",
    keeping: Keeping = FOR_EVER,
) -> str:
    """Begin a submission and leave it unsealed; return the job's id."""
    job_id, written = new_id(), made(chunks)
    name, model_id = (card.name, card.id) if card else (model, None)
    has_ids = any(c.ids is not None for c in written)
    job = NewJob(job_id, name, revision, model_id, JobOptions().to_dict(), priority, has_ids, owner, keeping=keeping)
    stores.jobs.create(job)
    if written:
        stores.chunks.append(job_id, written)
    return job_id


def made(chunks: int | Sequence[NewChunk]) -> Sequence[NewChunk]:
    """Return so many chunks of two items, or the chunks themselves."""
    return [chunk(number) for number in range(chunks)] if isinstance(chunks, int) else chunks


def claim(stores: Stores, job_id: str, number: int, worker: str, room: int = ALONE) -> list[Claim]:
    """Claim a chunk as the message that points to it would."""
    return stores.leases.claim(Pointer(job_id, number), worker, CARD.id, room)


def result(
    size: int = 2, failed: Sequence[int] = (), dtype: str = "float32", value: float = 0.5, cut: Sequence[int] = ()
) -> ChunkResult:
    """Return a chunk's result: seven tokens an item, item i's vector is full of `value + i`."""
    matrix = np.repeat(np.arange(size, dtype=np.float32)[:, None] + np.float32(value), CARD.width, axis=1)
    matrix[list(failed)] = np.nan
    tokens = np.full(size, 7, dtype=np.int32)
    lengths = tokens.copy()
    lengths[list(cut)] = 9
    return ChunkResult(matrix, dtype, tokens, lengths, {i: ItemError("encoder_failed", "No vector.") for i in failed})


def finish(stores: Stores, job_id: str, chunks: int, worker: str, failed: Sequence[int] = ()) -> None:
    """Claim and commit a job's chunks, each with these items failed."""
    for number in range(chunks):
        (held,) = claim(stores, job_id, number, worker)
        stores.leases.commit([(held, result(failed=failed))])


def set_chunk(database: Database, job_id: str, number: int, **values: Any) -> None:
    """Change a chunk's row behind the stores' back, as the passing of time would."""
    with database.write() as connection:
        wanted = update(ChunkRow).where(ChunkRow.job_id == job_id, ChunkRow.number == number)
        assert connection.execute(wanted.values(**values)).rowcount == 1


def chunk_row(database: Database, job_id: str, number: int = 0) -> Any:
    """Return a chunk's row."""
    with database.read() as connection:
        return connection.execute(select(ChunkRow).where(ChunkRow.job_id == job_id, ChunkRow.number == number)).one()


def chunk_states(database: Database, job_id: str) -> list[str]:
    """Return the states of a job's chunks, in order."""
    with database.read() as connection:
        wanted = select(ChunkRow.state).where(ChunkRow.job_id == job_id).order_by(ChunkRow.number)
        return list(connection.execute(wanted).scalars())
