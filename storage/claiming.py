"""The claim of chunks inside a running transaction: the one a message points to, and more of its kind with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Text, bindparam, cast, func, or_, select, update

from storage import naming, texts
from storage.attempts import ChunkInput, Claim
from storage.choice import SKIP_LOCKED, choose, due, not_expired, pending, pending_chunks
from storage.contract.messages import Pointer
from storage.contract.models import Priority
from storage.contract.states import ChunkState, JobState
from storage.database import now_ms
from storage.faults import StorageConflict
from storage.results import unpack_errors
from storage.tables import (
    CHUNK_IS_LEASED,
    CHUNK_IS_PENDING,
    CHUNKS,
    JOB_IS_OPEN,
    JOBS,
    ChunkRow,
    InputRow,
    JobRow,
    ResultRow,
)

#: Most further chunks that one message brings: of its own key, and of others where that has no more.
_TOGETHER, _BESIDE = 256, 64


def claim(
    connection: Connection, pointer: Pointer, worker_id: str, model_id: str, lease: int, token_room: int
) -> list[Claim]:
    """Lease chunks; see `LeaseStore.claim`.

    Args:
        connection: A transaction that writes.
        pointer: See there.
        worker_id: See there.
        model_id: See there.
        lease: How long the leases last without a heartbeat, in milliseconds.
        token_room: See there.

    Raises:
        StorageConflict: When a job was bound to another model meanwhile.
    """
    lessee = {"worker": worker_id, "lease": lease}
    wanted = {"job": pointer.job_id, "chunk": pointer.chunk, "model_id": model_id}
    leased: list[Any] = list(connection.execute(_CLAIM, wanted | lessee))
    if not leased:
        return []
    job = connection.execute(_READ_JOBS, {"jobs": [pointer.job_id]}).one()
    room = 0 if leased[0].crashes else token_room - leased[0].token_estimate
    further = _further(connection, job, room, leased[0].token_estimate) if room > 0 else []
    if further:
        leased += connection.execute(_CLAIM_FURTHER, naming.chunks(further) | lessee)
    jobs = {"jobs": list({row.job_id for row in leased})}
    connection.execute(_BEGIN_JOBS, jobs)
    others = connection.execute(_READ_JOBS, jobs) if further else [job]
    job_of = {row.id: row for row in others if row.model_id == model_id}
    if len(job_of) < len(jobs["jobs"]):
        # Bound to another identity in between, which a worker that stood still for long may meet.
        raise StorageConflict("A job was bound to another model meanwhile.", "Try again.")
    return [Claim.of(row, job_of[row.job_id], Priority(job.priority), worker_id) for row in leased]


def inputs(connection: Connection, claims: Sequence[Claim]) -> list[tuple[Claim, ChunkInput]]:
    """Return the texts of claimed chunks, without those that have been deleted meanwhile."""
    rows = connection.execute(_INPUTS, naming.chunks((claim.job_id, claim.number) for claim in claims))
    found = {(row.job_id, row.number): row for row in rows}
    rows_of = [(claim, found.get((claim.job_id, claim.number))) for claim in claims]
    return [(claim, _input(row)) for claim, row in rows_of if row is not None]


def _further(connection: Connection, job: Any, room: int, each: int) -> list[tuple[str, int]]:
    """Return further pending chunks of `each` tokens or so that fit into `room`: first those of the same key."""
    further: list[tuple[str, int]] = []
    own, most = _own(connection, job, room, each)
    for row in own:
        room -= row.token_estimate
        if room < 0:
            return further
        further.append((row.job_id, row.number))
    if len(own) < most:
        # Many who submit a text each would else have a batch for each.
        for chunk, tokens in choose(connection, job.model_id, job.priority, _BESIDE, beside=job.key_id).items():
            if tokens <= room:
                room -= tokens
                further.append(chunk)
    return further


def _own(connection: Connection, job: Any, room: int, each: int) -> tuple[Sequence[Any], int]:
    """Return pending chunks of a job's key for which there may be room, and how many were asked for."""
    queue = pending(job.model_id, job.priority, job.key_id)
    # What is locked is written, and passed over by all others: as many as fit if they are like the one at hand.
    most = min(room // max(each, 1) + 1, _TOGETHER)
    own = connection.execute(_FURTHER, queue | {"most": most}).all()
    if len(own) == most < _TOGETHER and sum(row.token_estimate for row in own) < room:
        most = _TOGETHER
        own = connection.execute(_FURTHER, queue | {"most": most}).all()
    return own, most


def _input(row: Any) -> ChunkInput:
    return ChunkInput(texts.unpack(row.texts), unpack_errors(row.invalid or {}), row if row.token is not None else None)


def _claimable() -> ColumnElement[bool]:
    waiting = ChunkRow.state.in_([ChunkState.PENDING, ChunkState.DISPATCHED]) & due()
    return or_(waiting, CHUNK_IS_LEASED & (ChunkRow.lease_expires < now_ms()))


def _job_is_open() -> ColumnElement[bool]:
    job = select(JobRow.id).where(JobRow.id == ChunkRow.job_id, JobRow.model_id == bindparam("model_id"))
    return job.where(JOB_IS_OPEN, not_expired()).exists()


# Statements of every message, put together once.

_COUNTED = (ChunkRow.claims, ChunkRow.failures, ChunkRow.crashes)
_CLAIM_COLUMNS = (
    ChunkRow.job_id,
    ChunkRow.number,
    ChunkRow.token,
    ChunkRow.size,
    ChunkRow.token_estimate,
    *_COUNTED,
    ChunkRow.dispatched_at,
    now_ms().label("now"),
)

_LEASED: dict[str, Any] = {
    "state": ChunkState.LEASED,
    "token": ChunkRow.token + 1,
    "claims": ChunkRow.claims + 1,
    "lease_owner": bindparam("worker"),
    "lease_expires": now_ms() + bindparam("lease", type_=BigInteger()),
}
_CLAIM = (
    update(CHUNKS)
    .where(ChunkRow.job_id == bindparam("job"), ChunkRow.number == bindparam("chunk"), _claimable(), _job_is_open())
    .values(_LEASED)
    .returning(*_CLAIM_COLUMNS)
)
_FURTHER = pending_chunks().limit(bindparam("most")).with_for_update(**SKIP_LOCKED)
_CLAIM_FURTHER = (
    update(CHUNKS)
    .where(naming.named(ChunkRow), CHUNK_IS_PENDING, ChunkRow.crashes == 0)
    .values(_LEASED)
    .returning(*_CLAIM_COLUMNS)
)
_OF_JOBS = JobRow.id.in_(naming.one_of("jobs"))
# The options as they are kept: those of one job may be unreadable.
_OPTIONS = cast(JobRow.options, Text).label("options")
_JOB_COLUMNS = (JobRow.id, JobRow.model_id, JobRow.priority, JobRow.key_id, JobRow.touched_at, _OPTIONS)
_READ_JOBS = select(*_JOB_COLUMNS).where(_OF_JOBS)
_BEGIN_JOBS = (
    update(JOBS)
    .where(_OF_JOBS, JobRow.state == JobState.QUEUED)
    .values(state=JobState.RUNNING, started_at=func.coalesce(JobRow.started_at, now_ms()))
)

_KEPT = (ResultRow.token, ResultRow.width, ResultRow.dtype, ResultRow.vectors, ResultRow.tokens, ResultRow.lengths)
_INPUTS = (
    select(InputRow.job_id, InputRow.number, InputRow.texts, InputRow.invalid, *_KEPT, ResultRow.errors)
    .outerjoin(ResultRow, (ResultRow.job_id == InputRow.job_id) & (ResultRow.number == InputRow.number))
    .where(naming.named(InputRow))
)
