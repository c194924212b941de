"""The end of a job before its texts are done: what has no outcome yet is cancelled, a few thousand chunks at a time.

A job may have millions of chunks, and whoever writes all of them in one transaction keeps others' claims and commits
waiting. So the first one ends the job and settles what is out of it and one step of what is pending; nearly always that
is all. Else `unsettled_after` says how far it has come, others' transactions come in between, and whoever reads the job
takes what is open of it for cancelled. Nobody can claim or commit anything of it: it is not open.
"""

from __future__ import annotations

import logging
import time
from enum import Enum
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, or_, select, update

from storage.contract import failpoints
from storage.contract.errors import ServerError
from storage.contract.states import ChunkState
from storage.database import Database
from storage.faults import retried
from storage.metering import unspent
from storage.quotas import owe
from storage.tables import (
    CHUNK_IS_DISPATCHED,
    CHUNK_IS_LEASED,
    CHUNK_IS_PENDING,
    CHUNKS,
    JOB_IS_OPEN,
    JOB_IS_UNFINISHED,
    ChunkRow,
    JobRow,
)

logger = logging.getLogger(__name__)

#: Pending chunks that are cancelled in one transaction: some hundredths of a second.
STEP = 4_000

#: Seconds for which whoever ends a job goes on with it; the reconciler does the rest.
AT_ONCE = 2.0

#: Pause between two steps, in seconds, in which other writers of a SQLite file get their turn.
_BREATH = 0.001

#: Jobs that are looked for in one go.
_SOME = 256

#: Before the first chunk.
_START = -1


class Ending(Enum):
    """What became of the wish to end a job: it was not open, it was settled as a whole, or there is more to settle."""

    REFUSED = "refused"
    WHOLE = "whole"
    BEGUN = "begun"


def end(connection: Connection, job_id: str, values: dict[str, Any], *which: ColumnElement[bool]) -> Ending:
    """End a job that is open, if these conditions hold, and cancel what has no outcome yet, or a step of it.

    Args:
        connection: A write transaction.
        job_id: The job.
        values: What its row says from now on; see `storage.ends.ended`.
        *which: The conditions.
    """
    # What has not gone round again keeps its error.
    values = values | {"unretried_from": None}
    if not connection.execute(update(JobRow).where(JobRow.id == job_id, JOB_IS_OPEN, *which).values(values)).rowcount:
        return Ending.REFUSED
    return Ending.BEGUN if _settle(connection, job_id, _START) else Ending.WHOLE


def step(connection: Connection, job_id: str) -> bool:
    """Settle a few thousand chunks of a job that has ended, inside a running transaction; return whether more are left.

    Args:
        connection: A write transaction.
        job_id: The job, of which all may be settled.
    """
    after = connection.execute(_COME, {"job": job_id}).scalar()
    return after is not None and _settle(connection, job_id, int(after))


class SettlingStore:
    """Every write that goes on with the end of a job."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def unsettled(self) -> list[str]:
        """Return jobs that have ended and have chunks to be settled; those that are deleted are settled as they go."""
        with self._db.read() as connection:
            return list(connection.execute(_UNSETTLED).scalars())

    @retried
    def step(self, job_id: str) -> bool:
        """Settle a few thousand chunks of a job that has ended; return whether more are left."""
        with self._db.write() as connection:
            return step(connection, job_id)

    def go_on(self, job_id: str, seconds: float | None = None) -> bool:
        """Settle a job that has ended for a while; return whether that was all: else the reconciler does the rest.

        Args:
            job_id: The job.
            seconds: For how long; default: as whoever has just ended it does.
        """
        deadline = time.monotonic() + (AT_ONCE if seconds is None else seconds)
        while time.monotonic() < deadline:
            failpoints.reach("end.begun")
            try:
                if not self.step(job_id):
                    return True
            except ServerError as error:
                # It has ended all the same.
                logger.warning("job %s has ended, and is settled by the reconciler: %s", job_id, error)
                return False
            if self._db.is_sqlite:
                time.sleep(_BREATH)
        return False


def _settle(connection: Connection, job_id: str, after: int) -> bool:
    """Cancel a step of what is pending behind a number, and all that is out; return whether more is left."""
    is_begun = after != _START
    if not is_begun:
        # Whatever is done already lies before the first that is pending, mostly, and need not be walked.
        after = int(connection.execute(_FIRST, {"job": job_id}).scalar() or 0) - 1
    place = {"job": job_id, "after": after}
    following = connection.execute(_FOLLOWING, place | {"step": STEP}).scalar()
    if following is None:
        # Once more whatever is open, before that number too: some may have been leased, or given back, in between.
        given_back = unspent(connection, job_id)
        connection.execute(_CANCEL_ALL, {"of": job_id})
    else:
        given_back = unspent(connection, job_id, after, following)
        connection.execute(_CANCEL_PENDING, {"of": job_id, "after": after, "before": following})
        # Last, so that what was sent or claimed a moment ago is among it.
        connection.execute(_CANCEL_OUT, {"of": job_id})
    come = None if following is None else following - 1
    if come is not None or is_begun:
        connection.execute(update(JobRow).where(JobRow.id == job_id).values(unsettled_after=come))
    owe(connection, given_back)
    return following is not None


# Statements, put together once.

_IS_UNSETTLED = JobRow.unsettled_after.is_not(None) & ~JOB_IS_UNFINISHED
_COME = select(JobRow.unsettled_after).where(JobRow.id == bindparam("job"), _IS_UNSETTLED).with_for_update()
_UNSETTLED = select(JobRow.id).where(_IS_UNSETTLED, JobRow.deleted_at.is_(None)).order_by(JobRow.id).limit(_SOME)
#: A job's first pending chunk.
_FIRST = (
    select(ChunkRow.number)
    .where(ChunkRow.job_id == bindparam("job"), CHUNK_IS_PENDING)
    .order_by(ChunkRow.number)
    .limit(1)
)
#: The first pending chunk that is not of the step.
_FOLLOWING = (
    select(ChunkRow.number)
    .where(ChunkRow.job_id == bindparam("job"), CHUNK_IS_PENDING, ChunkRow.number > bindparam("after"))
    .order_by(ChunkRow.number)
    .limit(1)
    .offset(bindparam("step"))
)
_OF_JOB = ChunkRow.job_id == bindparam("of")
_CANCEL = update(CHUNKS).values(state=ChunkState.CANCELLED, lease_owner=None, lease_expires=None)
_CANCEL_PENDING = _CANCEL.where(
    _OF_JOB, CHUNK_IS_PENDING, ChunkRow.number > bindparam("after"), ChunkRow.number < bindparam("before")
)
_CANCEL_OUT = _CANCEL.where(_OF_JOB, or_(CHUNK_IS_DISPATCHED, CHUNK_IS_LEASED))
# One by one, each with the job: each has a partial index of its own, and the done ones are not walked.
_CANCEL_ALL = _CANCEL.where(
    or_(*(and_(_OF_JOB, state) for state in (CHUNK_IS_PENDING, CHUNK_IS_DISPATCHED, CHUNK_IS_LEASED)))
)
