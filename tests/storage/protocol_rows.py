"""All rows of a database in plain SQL, and those that the model of the protocol says must be there."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from sqlalchemy import text

from storage.database import Database
from storage.outcomes import ItemError
from storage.results import ChunkResult
from tests.storage.builders import CARD
from tests.storage.protocol_jobs import Chunk, Outcome
from tests.storage.protocol_model import Model

_JOBS = (
    "SELECT CAST(id AS TEXT), state, generation, idempotency_key, deleted_at IS NOT NULL,"
    " started_at IS NOT NULL, finished_at IS NOT NULL, chunk_count FROM jobs"
)

_CHUNKS = (
    "SELECT CAST(c.job_id AS TEXT), c.number, c.state, c.first, c.size, c.token, c.claims, c.crashes,"
    " CAST(c.lease_owner AS TEXT), c.succeeded, c.failed, i.number IS NOT NULL, r.token, r.vectors, r.errors"
    " FROM chunks c LEFT JOIN inputs i ON i.job_id = c.job_id AND i.number = c.number"
    " LEFT JOIN results r ON r.job_id = c.job_id AND r.number = c.number"
)

_ORPHANS = (
    "SELECT (SELECT count(*) FROM inputs) + (SELECT count(*) FROM results) -"
    " (SELECT count(*) FROM chunks c JOIN inputs i ON i.job_id = c.job_id AND i.number = c.number) -"
    " (SELECT count(*) FROM chunks c JOIN results r ON r.job_id = c.job_id AND r.number = c.number)"
)


def rows_in(database: Database) -> dict[Any, Any]:
    """Return what is in a database, by job and by job and chunk."""
    with database.read() as connection:
        jobs = {row[0]: _job(*row[1:]) for row in connection.execute(text(_JOBS))}
        chunks = {(row[0], row[1]): _chunk(*row[2:]) for row in connection.execute(text(_CHUNKS))}
        orphans = connection.execute(text(_ORPHANS)).scalar_one()
    return jobs | chunks | {"orphans": orphans}


def rows_of(model: Model) -> dict[Any, Any]:
    """Return what must be there."""
    rows: dict[Any, Any] = {"orphans": 0}
    for job_id, job in model.jobs.items():
        final = job.state in ("completed", "failed", "cancelled", "expired")
        parts = sum(chunk.state != "split" for chunk in job.chunks.values())
        known = 0 if job.state == "accepting" or job.deleted else parts
        rows[job_id] = (job.state, job.generation, job.key, job.deleted, final, known)
        rows |= {(job_id, number): _wanted(chunk) for number, chunk in job.chunks.items()}
    return rows


def _job(
    state: str, generation: int, key: str | None, deleted: Any, started: Any, finished: Any, chunks: int
) -> tuple[Any, ...]:
    assert started or state not in ("running", "completed")
    return state, generation, key, bool(deleted), bool(finished), 0 if deleted else chunks


def _chunk(state: str, *row: Any) -> tuple[Any, ...]:
    *facts, has_texts, written, vectors, errors = row
    assert bool(has_texts) == (state != "split")
    outcomes = None if vectors is None else _outcomes(vectors, errors)
    if state == "split":
        facts[-2:] = 0, 0
    return (state, *facts, written, outcomes)


def _wanted(chunk: Chunk) -> tuple[Any, ...]:
    counts = (0, 0) if chunk.state == "split" else (chunk.succeeded, chunk.failed)
    facts = (chunk.first, chunk.size, chunk.token, chunk.claims, chunk.crashes, chunk.owner)
    return (chunk.state, *facts, *counts, chunk.written, chunk.row)


def _outcomes(vectors: bytes, errors: Any) -> list[Outcome]:
    matrix = np.frombuffer(vectors, dtype="<f4").reshape(-1, CARD.width)
    assert (np.isnan(matrix).all(axis=1) | (matrix == matrix[:, :1]).all(axis=1)).all()
    found = json.loads(errors) if isinstance(errors, str) else errors or {}
    codes = {int(place): code for place, (code, _) in found.items()}
    assert set(codes) == set(np.flatnonzero(np.isnan(matrix[:, 0])).tolist())
    return [codes.get(place, float(row[0])) for place, row in enumerate(matrix)]


def result_of(row: list[Outcome]) -> ChunkResult:
    """Return what a worker hands in for these outcomes: a vector is full of its value."""
    values = np.array([outcome if isinstance(outcome, float) else np.nan for outcome in row], dtype=np.float32)
    tokens = np.where(np.isnan(values), 0, 7).astype(np.int32)
    errors = {i: ItemError(outcome, "No vector.") for i, outcome in enumerate(row) if isinstance(outcome, str)}
    return ChunkResult(np.repeat(values[:, None], CARD.width, axis=1), "float32", tokens, tokens, errors)
