"""Finds the text that kills processes: splits a chunk that killed one alone, and in the end gives up a single text.

Runs inside the transaction that gives back what a dead process held, so that a second death finds it done or undone.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import DBAPIError

from storage import counters, texts, vectors
from storage.contract.models import ModelCard
from storage.contract.options import JobOptions
from storage.contract.states import ChunkState
from storage.database import now_ms
from storage.finishing import finish_settled
from storage.outcomes import ItemError
from storage.results import ChunkResult, pack_errors, refused, unpack_errors, without, write_results
from storage.tables import ChunkRow, InputRow, JobRow, ModelRow, ResultRow

logger = logging.getLogger(__name__)

#: Deaths after which a chunk is split: one among others, which proves nothing, and one alone.
SPLIT_AFTER = 2

#: Deaths after which a single text is given up: the first charge, and three alone.
POISON_AFTER = 4

#: Deaths that the halves of a split chunk begin with: they are suspects, so each runs alone.
_SUSPECT = 1


def isolate(connection: Connection, job_id: str, number: int) -> None:
    """Do with a chunk that has just been charged with a death what its count of deaths asks for.

    Args:
        connection: A write transaction in which the chunk is pending again.
        job_id: The job.
        number: The chunk's number.
    """
    # Whoever splits chunks of one job takes turns: both would take the same numbers for the halves.
    connection.execute(select(JobRow.id).where(JobRow.id == job_id).with_for_update())
    same = (ChunkRow.job_id == job_id, ChunkRow.number == number, ChunkRow.state == ChunkState.PENDING)
    chunk = connection.execute(select(ChunkRow.__table__).where(*same)).first()
    if chunk is None:
        return
    try:
        with connection.begin_nested():
            _advance(connection, chunk)
    except DBAPIError:
        raise
    except Exception:
        # One that cannot be read cannot be split; it must not keep the others from being given back.
        logger.exception("chunk %d of job %s cannot be isolated", number, job_id)


def _advance(connection: Connection, chunk: Any) -> None:
    if chunk.size > 1 and chunk.crashes >= SPLIT_AFTER:
        _split(connection, chunk)
    elif chunk.size == 1 and chunk.crashes >= POISON_AFTER:
        counters.count("texts_poisoned")
        message = f"The text ended {chunk.crashes} processes, the last ones while it was alone in them."
        _settle(connection, chunk, ItemError("poison", message))


def _split(connection: Connection, chunk: Any) -> None:
    inputs = connection.execute(select(InputRow.__table__).where(*_of(InputRow, chunk))).one()
    kept = connection.execute(select(ResultRow.__table__).where(*_of(ResultRow, chunk))).first()
    last = select(func.max(ChunkRow.number)).where(ChunkRow.job_id == chunk.job_id)
    following = int(connection.execute(last).scalar_one()) + 1
    middle = chunk.size // 2
    for offset, (start, end) in enumerate(((0, middle), (middle, chunk.size))):
        key = {"job_id": chunk.job_id, "number": following + offset}
        part = _input_part(inputs, start, end)
        invalid = len(part["invalid"] or {})
        values = {"state": ChunkState.PENDING, "first": chunk.first + start, "size": end - start}
        values |= {"token_estimate": -(-chunk.token_estimate * (end - start) // chunk.size), "crashes": _SUSPECT}
        values |= {"token": chunk.token, "invalid": invalid, "failed": invalid}
        if kept is not None:
            columns, counts = _result_part(kept, start, end)
            values |= counts
            connection.execute(insert(ResultRow).values(**key, **columns))
        connection.execute(insert(ChunkRow).values(**key, **values))
        connection.execute(insert(InputRow).values(**key, **part))
    for row in (InputRow, ResultRow):
        connection.execute(delete(row).where(*_of(row, chunk)))
    connection.execute(update(ChunkRow).where(*_of(ChunkRow, chunk)).values(state=ChunkState.SPLIT))
    counted = {"chunk_count": JobRow.chunk_count + 1}
    connection.execute(update(JobRow).where(JobRow.id == chunk.job_id).values(counted))
    counters.count("chunks_split")


def give_up(connection: Connection, job_id: str, number: int, error: ItemError) -> list[str]:
    """Give every item of a chunk that has no vector an error, inside a running transaction; return the job if it ended.

    Args:
        connection: A write transaction in which nobody else holds the chunk.
        job_id: The job.
        number: The chunk's number.
        error: Why; items refused at the door keep theirs.
    """
    chunk = connection.execute(select(ChunkRow.__table__).where(ChunkRow.job_id == job_id, ChunkRow.number == number))
    return _settle(connection, chunk.one(), error)


def _settle(connection: Connection, chunk: Any, error: ItemError) -> list[str]:
    wanted = select(JobRow.options, ModelRow.card).join(ModelRow, ModelRow.id == JobRow.model_id)
    job = connection.execute(wanted.where(JobRow.id == chunk.job_id)).one()
    options = JobOptions.from_dict(job.options)
    width = options.width(ModelCard.from_dict(job.card))
    inputs = connection.execute(select(InputRow.invalid).where(*_of(InputRow, chunk))).one()
    kept = connection.execute(select(ResultRow.__table__).where(*_of(ResultRow, chunk))).first()
    result = None if kept is None else _readable(kept, error)
    if result is None:
        result = refused(chunk.size, width, error, options.store_dtype)
        result.errors.update(unpack_errors(inputs.invalid or {}))
    write_results(connection, {(chunk.job_id, chunk.number, chunk.token): result})
    values: dict[str, Any] = {"state": ChunkState.DONE, "done_at": now_ms(), "lease_owner": None, "lease_expires": None}
    values |= {"succeeded": result.succeeded, "failed": len(result.errors)}
    values |= {"truncated": result.truncated, "tokens": int(result.tokens.sum())}
    connection.execute(update(ChunkRow).where(*_of(ChunkRow, chunk)).values(values))
    return finish_settled(connection, [chunk.job_id])


def _readable(kept: Any, error: ItemError) -> ChunkResult | None:
    """Return what is kept of an earlier round, or None where the row can't be read: its vectors are lost already."""
    try:
        return without(kept, error)
    except (ValueError, TypeError, KeyError, AttributeError):
        logger.exception("chunk %d of job %s has vectors that cannot be read", kept.number, kept.job_id)
        return None


def _of(row: Any, chunk: Any) -> tuple[Any, Any]:
    return row.job_id == chunk.job_id, row.number == chunk.number


def _input_part(inputs: Any, start: int, end: int) -> dict[str, Any]:
    encoded = [text.encode() for text in texts.unpack(inputs.texts)[start:end]]
    ids = None if inputs.ids is None else texts.pack_ids(texts.unpack_ids(inputs.ids)[start:end])
    hashes = None if inputs.id_hashes is None else inputs.id_hashes[8 * start : 8 * end]
    invalid = _shifted(unpack_errors(inputs.invalid or {}), start, end)
    return {"texts": texts.pack(encoded), "ids": ids, "id_hashes": hashes, "invalid": pack_errors(invalid) or None}


def _result_part(kept: Any, start: int, end: int) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the columns of a part of a result that `retry` keeps, and what the chunk counts of it."""
    matrix = vectors.from_bytes(kept.vectors, kept.width, kept.dtype)[start:end]
    tokens, lengths = (np.frombuffer(blob, dtype="<i4")[start:end] for blob in (kept.tokens, kept.lengths))
    errors = _shifted(unpack_errors(kept.errors or {}), start, end)
    columns = {
        "token": kept.token,
        "width": kept.width,
        "dtype": kept.dtype,
        "vectors": vectors.to_bytes(matrix, kept.dtype),
        "tokens": tokens.tobytes(),
        "lengths": lengths.tobytes(),
        "errors": pack_errors(errors) or None,
    }
    succeeded = ~np.isnan(matrix[:, 0])
    counts = {"succeeded": int(succeeded.sum()), "tokens": int(tokens.sum())}
    return columns, counts | {"truncated": int((succeeded & (lengths > tokens)).sum())}


def _shifted(errors: dict[int, ItemError], start: int, end: int) -> dict[int, ItemError]:
    return {position - start: error for position, error in errors.items() if start <= position < end}
