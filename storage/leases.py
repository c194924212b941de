"""The store of leases: claim, heartbeat, commit, release; each one guarded statement or transaction.

Only the database's clock counts. A claim raises the chunk's token; every later write by that attempt must show the
token, so that a late one changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, bindparam, cast, func, or_, select, tuple_, update

from storage import counters, texts
from storage.attempts import AttemptKey, ChunkInput, Claim
from storage.choice import SKIP_LOCKED, due, not_expired, pending_chunks
from storage.chunks import among, have_keys
from storage.contract import failpoints
from storage.contract.messages import Pointer
from storage.contract.models import Priority
from storage.contract.states import ChunkState, JobState
from storage.database import Database, now_ms
from storage.faults import StorageConflict, retried
from storage.finishing import finish_settled
from storage.isolation import give_up, isolate
from storage.outcomes import ItemError
from storage.results import ChunkResult, unpack_errors, write_result
from storage.tables import CHUNK_IS_LEASED, JOB_IS_OPEN, ChunkRow, InputRow, JobRow, ResultRow
from storage.workers import touch_worker

#: How long a lease lasts without a heartbeat, in milliseconds.
LEASE = 60_000


class LeaseStore:
    """Every write by which a worker takes, holds, finishes or gives back chunks."""

    def __init__(self, database: Database, lease: int = LEASE) -> None:
        self._db = database
        self._lease = lease

    @retried
    def claim(self, pointer: Pointer, worker_id: str, model_id: str, token_room: int) -> list[Claim]:
        """Lease the chunk a message points to, and further pending ones of the same queue.

        Args:
            pointer: From the message; it may be late, doubled or forged.
            worker_id: Who claims.
            model_id: The model the worker serves.
            token_room: Estimated tokens to fill up to with further chunks.

        Returns:
            The claims, empty where the chunk is somebody else's, done, cancelled, unknown or of another model.
        """
        with self._db.write() as connection:
            leased: list[Any] = list(
                connection.execute(
                    update(ChunkRow)
                    .where(ChunkRow.job_id == pointer.job_id, ChunkRow.number == pointer.chunk, _claimable())
                    .where(_job_is_open(model_id))
                    .values(_lease_values(worker_id, self._lease))
                    .returning(*_CLAIM_COLUMNS)
                )
            )
            if not leased:
                return []
            of_job = select(JobRow.priority, JobRow.key_id).where(JobRow.id == pointer.job_id)
            job = connection.execute(of_job).one()
            priority = Priority(job.priority)
            room = 0 if leased[0].crashes else token_room - leased[0].token_estimate
            further = _fitting(connection, pending_chunks(model_id, priority, job.key_id), room)
            if further:
                values = _lease_values(worker_id, self._lease)
                statement = among(further, ChunkState.PENDING).values(values).returning(*_CLAIM_COLUMNS)
                leased += connection.execute(statement)
            jobs = {row.job_id for row in leased}
            start = {"state": JobState.RUNNING, "started_at": func.coalesce(JobRow.started_at, now_ms())}
            connection.execute(update(JobRow).where(JobRow.id.in_(jobs), JobRow.state == JobState.QUEUED).values(start))
            options = select(JobRow.id, cast(JobRow.options, Text).label("options")).where(JobRow.id.in_(jobs))
            options_of = {row.id: row.options for row in connection.execute(options.where(JobRow.model_id == model_id))}
            if jobs - set(options_of):
                # Bound to another identity in between, which a worker that stood still for long may meet.
                raise StorageConflict("A job was bound to another model meanwhile.", "Try again.")
            failpoints.reach("claim.writing")
        failpoints.reach("claim.committed")
        return [Claim.of(row, options_of[row.job_id], priority) for row in leased]

    def inputs(self, claims: Sequence[Claim]) -> list[tuple[Claim, ChunkInput]]:
        """Return the texts of claimed chunks, without those that have been deleted meanwhile."""
        keys = [(claim.job_id, claim.number) for claim in claims]
        of_chunks = select(InputRow.job_id, InputRow.number, InputRow.texts, InputRow.invalid)
        with self._db.read() as connection:
            rows = connection.execute(of_chunks.where(have_keys(InputRow, keys))).all()
            earlier = connection.execute(select(ResultRow).where(have_keys(ResultRow, keys))).all()
        kept = {(row.job_id, row.number): row for row in earlier}
        found = {(row.job_id, row.number): row for row in rows}
        return [
            (claim, ChunkInput(texts.unpack(row.texts), unpack_errors(row.invalid or {}), kept.get(key)))
            for claim, key in zip(claims, keys, strict=True)
            if (row := found.get(key)) is not None
        ]

    @retried
    def heartbeat(self, worker_id: str, held: Collection[AttemptKey]) -> set[AttemptKey]:
        """Extend the leases a worker works on and note that it is alive.

        A lease the worker does not know of is left to run out: the answer to its claim, or to its release, was lost.

        Args:
            worker_id: Whose.
            held: What it works on.

        Returns:
            What of it still holds; what is missing is lost: cancelled, or somebody else's.
        """
        attempts = tuple_(ChunkRow.job_id, ChunkRow.number, ChunkRow.token).in_(list(held))
        with self._db.write() as connection:
            touch_worker(connection, worker_id)
            extended = connection.execute(
                update(ChunkRow)
                .where(attempts, CHUNK_IS_LEASED)
                .values(lease_expires=now_ms() + self._lease)
                .returning(ChunkRow.job_id, ChunkRow.number, ChunkRow.token)
            )
            still = {(row.job_id, row.number, row.token) for row in extended}
            failpoints.reach("heartbeat.writing")
        return still

    @retried
    def commit(self, results: Sequence[tuple[Claim, ChunkResult]]) -> tuple[set[AttemptKey], list[str]]:
        """Write results in one transaction, each only if its token still holds; finish the jobs that end with them.

        May be called again when the answer was lost: what the first call has committed is found by its token.

        Returns:
            The attempts that are written (the others were late and changed nothing), and the jobs that finished.
        """
        written: set[AttemptKey] = set()
        unheld: list[Claim] = []
        with self._db.write() as connection:
            for claim, result in results:
                if connection.execute(_DONE, _done_values(claim, result)).rowcount == 1:
                    failpoints.reach("commit.guarded")
                    write_result(connection, claim.job_id, claim.number, claim.token, result)
                    written.add(claim.key)
                else:
                    unheld.append(claim)
            finished = finish_settled(connection, {job_id for job_id, _, _ in written})
            resolved = {claim.key for claim in unheld if _committed_before(connection, claim)}
            failpoints.reach("commit.written")
        failpoints.reach("commit.committed")
        counters.count("commits_resolved", len(resolved))
        counters.count("commits_late", len(unheld) - len(resolved))
        return written | resolved, finished

    @retried
    def release(self, claims: Sequence[Claim], delay: int = 0, failed: bool = False) -> None:
        """Give leases back.

        Args:
            claims: What is given back; those no longer held are left alone.
            delay: Milliseconds before the chunk may be claimed again.
            failed: Whether the attempt failed for a reason nobody foresaw, which is counted.
        """
        with self._db.write() as connection:
            for claim in claims:
                values = _pending_values(delay) | {"failures": ChunkRow.failures + int(failed)}
                connection.execute(update(ChunkRow).where(*_held(*claim.key)).values(values))

    @retried
    def give_up(self, claims: Sequence[Claim], error: ItemError) -> list[str]:
        """End chunks with an error for every item that has no vector; those no longer held are left alone.

        Returns:
            The jobs that finished with that.
        """
        finished: list[str] = []
        with self._db.write() as connection:
            for claim in claims:
                if connection.execute(select(ChunkRow.number).where(*_held(*claim.key)).with_for_update()).first():
                    finished += give_up(connection, claim.job_id, claim.number, error)
                    counters.count("chunks_given_up")
        return finished

    @retried
    def release_worker(self, worker_id: str, died: bool = False) -> int:
        """Give back all that a stopped worker held; return how many chunks that were.

        Args:
            worker_id: The id of that start of the process.
            died: Whether it died with them, which is then charged to each chunk, and the culprit looked for.
        """
        leased = (CHUNK_IS_LEASED, ChunkRow.lease_owner == worker_id)
        values = _pending_values() | ({"crashes": ChunkRow.crashes + 1} if died else {})
        with self._db.write() as connection:
            released = update(ChunkRow).where(*leased).values(values).returning(ChunkRow.job_id, ChunkRow.number)
            chunks = sorted((row.job_id, row.number) for row in connection.execute(released))
            for job_id, number in chunks if died else ():
                isolate(connection, job_id, number)
            failpoints.reach("release.writing")
        counters.count("leases_released", len(chunks) if died else 0)
        return len(chunks)

    @retried
    def release_expired(self) -> int:
        """Give back every lease whose time is over, in one guarded statement; return how many."""
        expired = (CHUNK_IS_LEASED, ChunkRow.lease_expires < now_ms())
        with self._db.read() as connection:
            if not connection.execute(select(ChunkRow.number).where(*expired).limit(1)).first():
                return 0
        with self._db.write() as connection:
            count = connection.execute(update(ChunkRow).where(*expired).values(_pending_values())).rowcount
        counters.count("leases_expired", count)
        return count


_CLAIM_COLUMNS = (
    ChunkRow.job_id,
    ChunkRow.number,
    ChunkRow.token,
    ChunkRow.size,
    ChunkRow.token_estimate,
    ChunkRow.failures,
    ChunkRow.crashes,
)


def _committed_before(connection: Connection, claim: Claim) -> bool:
    """Whether this very attempt has committed already: a token is given out once, and a result keeps it."""
    done = (ChunkRow.job_id == claim.job_id, ChunkRow.number == claim.number, ChunkRow.state == ChunkState.DONE)
    same = (ResultRow.job_id == claim.job_id, ResultRow.number == claim.number, ResultRow.token == claim.token)
    found = select(ChunkRow.number).where(*done, select(ResultRow.number).where(*same).exists())
    return connection.execute(found).first() is not None


def _claimable() -> ColumnElement[bool]:
    waiting = ChunkRow.state.in_([ChunkState.PENDING, ChunkState.DISPATCHED]) & due()
    return or_(waiting, CHUNK_IS_LEASED & (ChunkRow.lease_expires < now_ms()))


def _job_is_open(model_id: str) -> ColumnElement[bool]:
    job = select(JobRow.id).where(JobRow.id == ChunkRow.job_id, JobRow.model_id == model_id)
    return job.where(JOB_IS_OPEN, not_expired()).exists()


def _held(job_id: Any, number: Any, token: Any) -> tuple[ColumnElement[bool], ...]:
    return (
        ChunkRow.job_id == job_id,
        ChunkRow.number == number,
        CHUNK_IS_LEASED,
        ChunkRow.token == token,
    )


#: The statement that ends a chunk; made once, because making one costs more than running it.
_DONE = (
    update(ChunkRow)
    .where(*_held(bindparam("held_job"), bindparam("held_number"), bindparam("held_token")))
    .values(state=ChunkState.DONE, lease_owner=None, lease_expires=None, done_at=now_ms())
)


def _done_values(claim: Claim, result: ChunkResult) -> dict[str, Any]:
    return {
        "held_job": claim.job_id,
        "held_number": claim.number,
        "held_token": claim.token,
        "succeeded": result.succeeded,
        "failed": len(result.errors),
        "truncated": result.truncated,
        "tokens": int(result.tokens.sum()),
    }


def _lease_values(worker_id: str, lease: int) -> dict[str, Any]:
    return {
        "state": ChunkState.LEASED,
        "token": ChunkRow.token + 1,
        "claims": ChunkRow.claims + 1,
        "lease_owner": worker_id,
        "lease_expires": now_ms() + lease,
    }


def _pending_values(delay: int = 0) -> dict[str, Any]:
    return {
        "state": ChunkState.PENDING,
        "lease_owner": None,
        "lease_expires": None,
        "not_before": now_ms() + delay if delay else None,
    }


def _fitting(connection: Connection, pending: Any, room: int) -> list[tuple[str, int]]:
    """Return further pending chunks, best first, whose estimates fit into `room` tokens."""
    fitting: list[tuple[str, int]] = []
    if room <= 0:
        return fitting
    unsuspected = pending.where(ChunkRow.crashes == 0)
    for row in connection.execute(unsuspected.limit(256).with_for_update(**SKIP_LOCKED)):
        room -= row.token_estimate
        if room < 0:
            break
        fitting.append((row.job_id, row.number))
    return fitting
