"""The store of leases: claim, heartbeat, commit, release; each one guarded statement or transaction.

Only the database's clock counts. A claim raises the chunk's token and names its owner; every later write by that
attempt must show both, so that a late one changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select, tuple_, update

from storage import claiming, counters, naming
from storage.attempts import AttemptKey, ChunkInput, Claim
from storage.choice import SKIP_LOCKED
from storage.contract import failpoints
from storage.contract.messages import Pointer
from storage.contract.states import ChunkState
from storage.database import Database, now_ms
from storage.faults import retried
from storage.finishing import finish_settled
from storage.isolation import give_up, isolate
from storage.metering import Meter
from storage.outcomes import ItemError
from storage.pulses import Pulse
from storage.quotas import owe
from storage.results import ChunkResult, write_results
from storage.tables import CHUNK_IS_LEASED, CHUNKS, JOB_IS_OPEN, ChunkRow, JobRow, ResultRow
from storage.workers import touch_worker

#: How long a lease lasts without a heartbeat, in milliseconds.
LEASE = 60_000


class LeaseStore:
    """Every write by which a worker takes, holds, finishes or gives back chunks."""

    def __init__(self, database: Database, lease: int = LEASE) -> None:
        self._db = database
        self._lease = lease
        self._meter = Meter()

    @retried
    def claim(self, pointer: Pointer, worker_id: str, model_id: str, token_room: int) -> list[Claim]:
        """Lease the chunk a message points to, and further pending ones of the same queue, its own key's first.

        Args:
            pointer: From the message; it may be late, doubled or forged.
            worker_id: Who claims.
            model_id: The model the worker serves.
            token_room: Estimated tokens to fill up to with further chunks.

        Returns:
            The claims, empty where the chunk is somebody else's, done, cancelled, unknown or of another model.
        """
        with self._db.write(durable=False) as connection:
            claims = claiming.claim(connection, pointer, worker_id, model_id, self._lease, token_room)
            if claims:
                failpoints.reach("claim.writing")
        if claims:
            failpoints.reach("claim.committed")
        return claims

    def inputs(self, claims: Sequence[Claim]) -> list[tuple[Claim, ChunkInput]]:
        """Return the texts of claimed chunks, without those that have been deleted meanwhile."""
        with self._db.read() as connection:
            return claiming.inputs(connection, claims)

    def heartbeat(self, worker_id: str, held: Collection[AttemptKey], pulse: Pulse | None = None) -> set[AttemptKey]:
        """Extend the leases a worker works on and note that it is alive.

        A lease the worker does not know of is left to run out: the answer to its claim, or to its release, was lost.
        What is being committed or taken back at this moment is passed over, where rows are locked: nothing waits.

        Args:
            worker_id: Whose.
            held: What it works on.
            pulse: How it is, written into the row that is written anyway; None: what it told before stays.

        Returns:
            What of it was extended; what is missing is lost (cancelled, or somebody else's), or passed over.
        """
        self._touch(worker_id, pulse)
        return self._extend(naming.held(held, [worker_id]))

    @retried
    def _touch(self, worker_id: str, pulse: Pulse | None) -> None:
        # By itself: a worker is alive whatever its chunks' rows wait for.
        with self._db.write(durable=False) as connection:
            touch_worker(connection, worker_id, pulse)

    @retried
    def _extend(self, held: dict[str, Any]) -> set[AttemptKey]:
        these = naming.HELD if self._db.is_sqlite else naming.HELD & _IS_FREE
        with self._db.write(durable=False) as connection:
            extended = connection.execute(
                update(CHUNKS).where(these).values(lease_expires=now_ms() + self._lease).returning(*_ATTEMPT), held
            )
            still = _keys(extended)
            failpoints.reach("heartbeat.writing")
        return still

    @retried
    def commit(self, results: Sequence[tuple[Claim, ChunkResult]]) -> tuple[set[AttemptKey], list[str]]:
        """Write results in one transaction, each only if its token still holds; finish the jobs that end with them.

        May be called again when the answer was lost: what the first call has committed is found by its token.

        Returns:
            The attempts that are written (the others were late and changed nothing), and the jobs that finished.
        """
        by_attempt: dict[AttemptKey, ChunkResult] = {}
        for claim, result in results:
            by_attempt.setdefault(claim.key, result)
        held = _held(claim for claim, _ in results)
        owed: dict[str, float] = {}
        with self._db.write() as connection:
            written = _keys(connection.execute(_HELD, held))
            if written:
                failpoints.reach("commit.guarded")
                owed = self._meter.owed(connection, {key[:2]: by_attempt[key].read for key in written})
                connection.execute(_SETTLE, [_settled(key, by_attempt[key]) for key in written])
                write_results(connection, {key: by_attempt[key] for key in written})
            finished = finish_settled(connection, {job_id for job_id, _, _ in written})
            resolved = {key for key in by_attempt if key not in written and _committed_before(connection, key)}
            owe(connection, owed)
            failpoints.reach("commit.written")
        failpoints.reach("commit.committed")
        counters.count("commits_resolved", len(resolved))
        counters.count("commits_late", len(by_attempt) - len(written) - len(resolved))
        done = [by_attempt[key] for key in written | resolved]
        counters.count("texts_embedded", sum(result.succeeded for result in done))
        counters.count("texts_failed", sum(len(result.errors) for result in done))
        counters.count("tokens_embedded", sum(map(_tokens, done)))
        return written | resolved, finished

    @retried
    def release(self, claims: Sequence[Claim], delay: int = 0, failed: bool = False) -> None:
        """Give leases back.

        Args:
            claims: What is given back; those no longer held are left alone.
            delay: Milliseconds before the chunk may be claimed again.
            failed: Whether the attempt failed for a reason nobody foresaw, which is counted.
        """
        values = _pending_values(delay) | {"failures": ChunkRow.failures + int(failed)}
        with self._db.write() as connection:
            connection.execute(update(CHUNKS).where(naming.HELD).values(values), _held(claims))

    @retried
    def give_up(self, claims: Sequence[Claim], error: ItemError) -> list[str]:
        """End chunks with an error for every item that has no vector; those no longer held are left alone.

        Returns:
            The jobs that finished with that.
        """
        finished: list[str] = []
        with self._db.write() as connection:
            held = connection.execute(_HELD, _held(claims)).all()
            for job_id, number, _ in held:
                finished += give_up(connection, job_id, number, error)
            counters.count("chunks_given_up", len(held))
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
        """Give back every lease whose time is over, in one guarded statement; return how many.

        What somebody has locked is left for the next round: a host that vanished in the midst of a commit would else
        keep all others from getting theirs back until its connection is given up.
        """
        expired = (CHUNK_IS_LEASED, ChunkRow.lease_expires < now_ms())
        with self._db.read() as connection:
            if not connection.execute(select(ChunkRow.number).where(*expired).limit(1)).first():
                return 0
        with self._db.write() as connection:
            free = select(ChunkRow.job_id, ChunkRow.number).where(*expired).with_for_update(**SKIP_LOCKED)
            these = tuple_(ChunkRow.job_id, ChunkRow.number).in_(free)
            count = connection.execute(update(ChunkRow).where(*expired, these).values(_pending_values())).rowcount
        counters.count("leases_expired", count)
        return count


def _held(claims: Iterable[Claim]) -> dict[str, Any]:
    """Return what a statement with `naming.HELD` is run with."""
    claims = list(claims)
    return naming.held((claim.key for claim in claims), (claim.owner for claim in claims))


def _keys(rows: Iterable[Any]) -> set[AttemptKey]:
    return {(row.job_id, row.number, row.token) for row in rows}


def _settled(attempt: AttemptKey, result: ChunkResult) -> dict[str, Any]:
    """Return what `_SETTLE` is run with."""
    job_id, number, _ = attempt
    counts = {"succeeded": result.succeeded, "failed": len(result.errors), "truncated": result.truncated}
    return counts | {"job": job_id, "chunk": number, "tokens": _tokens(result)}


def _tokens(result: ChunkResult) -> int:
    return int(result.tokens.sum())


def _pending_values(delay: int = 0) -> dict[str, Any]:
    return {
        "state": ChunkState.PENDING,
        "lease_owner": None,
        "lease_expires": None,
        "not_before": now_ms() + delay if delay else None,
    }


# Statements of every message, put together once.

_ATTEMPT = (ChunkRow.job_id, ChunkRow.number, ChunkRow.token)
# One that has ended may have chunks that are leased a moment longer: what its caller was told of them stays.
_JOB_IS_OPEN = select(JobRow.id).where(JobRow.id == ChunkRow.job_id, JOB_IS_OPEN).exists()
# In one order, so that two who lock several chunks never wait for each other.
_HELD = select(*_ATTEMPT).where(naming.HELD, _JOB_IS_OPEN).order_by(ChunkRow.job_id, ChunkRow.number).with_for_update()
# Whom a heartbeat finds locked it leaves alone: a commit, mostly its own worker's, that the disk or a standby holds up.
_IS_FREE = tuple_(ChunkRow.job_id, ChunkRow.number).in_(
    select(ChunkRow.job_id, ChunkRow.number).where(naming.HELD).with_for_update(**SKIP_LOCKED)
)
_SETTLE = (
    update(CHUNKS)
    .where(ChunkRow.job_id == bindparam("job"), ChunkRow.number == bindparam("chunk"))
    .values(state=ChunkState.DONE, lease_owner=None, lease_expires=None, done_at=now_ms())
    .values({name: bindparam(name) for name in ("succeeded", "failed", "truncated", "tokens")})
)
_COMMITTED = select(ChunkRow.number).where(
    ChunkRow.job_id == bindparam("job"),
    ChunkRow.number == bindparam("chunk"),
    ChunkRow.state == ChunkState.DONE,
    select(ResultRow.number)
    .where(ResultRow.job_id == ChunkRow.job_id, ResultRow.number == ChunkRow.number)
    .where(ResultRow.token == bindparam("token"))
    .exists(),
)


def _committed_before(connection: Connection, attempt: AttemptKey) -> bool:
    """Whether this very attempt has committed already: a token is given out once, and a result keeps it."""
    job_id, number, token = attempt
    return connection.execute(_COMMITTED, {"job": job_id, "chunk": number, "token": token}).first() is not None
