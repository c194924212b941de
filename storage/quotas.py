"""What an API key may have and use: stored texts, open jobs, tokens a minute, bytes of files.

Every transaction that makes a job, or adds texts to one or bytes to a file, asks here. It locks the key's row, so that
of two at once the second sees what the first has taken; keys without limits have no row and lock nothing. The row is
the last that such a transaction locks, and whoever locks several takes them in order: nobody waits in a circle. When
there may be room again is asked outside (`nextends.end_told`): it may take long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, and_, bindparam, func, literal_column, or_, select, update

from storage.contract.errors import InvalidOption, QuotaExceeded
from storage.contract.states import ChunkState
from storage.database import Database, now_ms
from storage.filetables import FileRow
from storage.nextends import TooManyJobs, end_told
from storage.tables import JOB_IS_UNFINISHED, ChunkRow, JobRow, QuotaRow

#: Largest limit; a BIGINT holds it many times over.
_MOST = 10**15

#: The id of no job.
_NO_JOB = "00000000-0000-0000-0000-000000000000"

#: A file whose writer has not been done for so long counts no more, in milliseconds: he is gone, and nobody sees it.
_WRITTEN_WITHIN = 2 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Quota:
    """What a key may have and use; None is no limit.

    Args:
        texts: Most texts that are kept for it, whatever became of them.
        jobs: Most jobs of it that have not ended; calls that somebody waits for are none.
        tokens_per_minute: Most tokens a minute that it may submit, on the average.
        stored_bytes: Most bytes of files that are kept for it; what a batch has written counts, and is not refused.

    Raises:
        InvalidOption: When a limit is no number above 0.
    """

    texts: int | None = None
    jobs: int | None = None
    tokens_per_minute: int | None = None
    stored_bytes: int | None = None

    def __post_init__(self) -> None:
        for name, limit in self.to_dict().items():
            if limit is not None and not 1 <= limit <= _MOST:
                raise InvalidOption(f"The limit of {name.replace('_', ' ')} must be at least 1.")

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit."""
        return any(limit is not None for limit in self.to_dict().values())

    def to_dict(self) -> dict[str, int | None]:
        """Return the limits by their names, as the columns of a row have them."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A leaky bucket: what a key has submitted goes in, and runs out at its rate.

    It holds what a minute lets out. A job larger than that finds room only in an empty one, and then fills it over the
    brim, so that the next one waits the longer: large jobs are delayed, none is impossible.

    Args:
        rate: Tokens a minute.
        owed: Tokens in it now.
    """

    rate: int
    owed: float

    @classmethod
    def of(cls, row: Any) -> Bucket:
        """Return the bucket of a quota's row as it is now, what has run out meanwhile taken off."""
        passed = max(row.now - row.as_of, 0)
        return cls(row.tokens_per_minute, max(row.owed - passed * row.tokens_per_minute / 60_000, 0.0))

    def wait(self, tokens: float) -> float:
        """Return after how many seconds there is room for so many tokens; 0: now."""
        over = self.owed + min(tokens, self.rate) - self.rate
        return max(over, 0.0) * 60 / self.rate


def admit(connection: Connection, job_id: str, key_id: str, *, sealed: bool) -> None:
    """Check, as the last step of a transaction that makes a job or adds to one, that its key may have it.

    Args:
        connection: A write transaction, in which the job and its chunks have been written.
        job_id: The job.
        key_id: Whose it is; empty: nobody's, which is admitted at once.
        sealed: Whether it is complete; its tokens, as estimated, are then charged.

    Raises:
        QuotaExceeded: When it would be too much; the caller undoes the transaction.
    """
    if not key_id:
        return
    key = {"key": key_id, "job": job_id}
    quota = connection.execute(_LOCKED, key).first()
    if quota is None:
        return
    if quota.jobs is not None and connection.execute(_IS_COUNTED, key).first() is not None:
        _admit_jobs(connection, quota.jobs, key)
    if quota.texts is not None:
        _admit_texts(connection, quota.texts, key)
    if quota.tokens_per_minute is not None:
        tokens = _estimate(connection, key) if sealed else 0
        _admit_tokens(connection, quota, tokens, tokens)


def admit_again(connection: Connection, job_id: str, key_id: str, tokens: float, sent: float) -> None:
    """Check, as the last step of a transaction that sends a job's failed items round again, that its key may do so.

    Their share of the estimate is charged, as for a submission; what the round takes is settled at its commits.

    Args:
        connection: A write transaction, in which their chunks wait again, or the first of them.
        job_id: The job.
        key_id: Whose it is; empty: nobody's, which is admitted at once.
        tokens: Their share of the estimate, for which there must be room.
        sent: That of those which wait, which is charged; the others' is as they are sent.

    Raises:
        QuotaExceeded: When it would be too much now; the caller undoes the transaction.
    """
    key = {"key": key_id, "job": job_id}
    quota = connection.execute(_LOCKED, key).first() if key_id else None
    if quota is None:
        return
    if quota.jobs is not None:
        _admit_jobs(connection, quota.jobs, key)
    if quota.tokens_per_minute is not None:
        _admit_tokens(connection, quota, tokens, sent)


def check_room(database: Database, key_id: str) -> None:
    """Find out, before any work, whether a key may make a job now at all; what the job holds is judged by `admit`.

    Args:
        database: Where it is kept.
        key_id: Whose the job would be; empty: nobody's.

    Raises:
        QuotaExceeded: When it may not yet.
    """
    key = {"key": key_id, "job": _NO_JOB}
    with end_told(database), database.read() as connection:
        quota = connection.execute(_QUOTA, key).first() if key_id else None
        if quota is None:
            return
        if quota.jobs is not None:
            _admit_jobs(connection, quota.jobs, key)
        if quota.tokens_per_minute is not None:
            _admit_tokens(connection, quota, 0, 0)


def admit_bytes(connection: Connection, key_id: str) -> None:
    """Check, as the last step of a transaction that adds bytes to a file, that its key may keep them.

    Args:
        connection: A write transaction, in which they have been counted.
        key_id: Whose file it is; empty: nobody's, which is admitted at once.

    Raises:
        QuotaExceeded: When it would be too much; the caller undoes the transaction.
    """
    quota = connection.execute(_LOCKED, {"key": key_id}).first() if key_id else None
    if quota is not None and quota.stored_bytes is not None:
        kept = int(connection.execute(_BYTES, {"key": key_id}).scalar() or 0)
        if kept > quota.stored_bytes:
            raise QuotaExceeded(
                f"This API key may keep {quota.stored_bytes:,} bytes of files, and this would make it {kept:,}.",
                "Delete files that are not needed any more, which GET /v1/files lists, or cancel an upload.",
            )


def owe(connection: Connection, tokens: Mapping[str, float]) -> None:
    """Add tokens to what keys owe, or take them off; the last step of a transaction.

    Args:
        connection: A write transaction.
        tokens: By key; keys without such a limit are passed over.
    """
    for key_id in sorted(tokens):
        quota = connection.execute(_LOCKED, {"key": key_id}).first()
        if quota is not None and quota.tokens_per_minute is not None:
            _set_owed(connection, quota, Bucket.of(quota).owed + tokens[key_id])


def _admit_jobs(connection: Connection, most: int, key: dict[str, str]) -> None:
    others = connection.execute(_OPEN, key).scalar_one()
    if others >= most:
        # The count alone: nobody adds up chunks while others wait for the key's row.
        raise TooManyJobs(
            f"This API key may have {most:,} open job{'s' if most != 1 else ''} at a time, and has {others:,}.",
            "Wait until one has ended, or cancel one.",
            key["key"],
        )


def _admit_texts(connection: Connection, most: int, key: dict[str, str]) -> None:
    kept = sum(int(connection.execute(query, key).scalar() or 0) for query in (SEALED_TEXTS, UNSEALED_TEXTS))
    if kept > most:
        raise QuotaExceeded(
            f"This API key may keep {most:,} texts, and this would make it {kept:,}.",
            "Delete jobs whose results you have fetched.",
        )


def _estimate(connection: Connection, key: dict[str, str]) -> int:
    """Return the tokens that a sealed job is estimated at."""
    counted = connection.execute(_COUNTED, key).scalar()
    return int(counted if counted is not None else connection.execute(_ESTIMATE, key).scalar() or 0)


def _admit_tokens(connection: Connection, quota: Any, tokens: float, now: float) -> None:
    bucket = Bucket.of(quota)
    wait = bucket.wait(tokens)
    if wait > 0:
        raise QuotaExceeded(
            f"This API key may submit {quota.tokens_per_minute:,} tokens a minute.",
            f"There is room for this again in {max(round(wait), 1):,} s.",
            wait,
        )
    if now:
        _set_owed(connection, quota, bucket.owed + now)


def _set_owed(connection: Connection, quota: Any, owed: float) -> None:
    # Its clock may have been read before it was waited for the row.
    values = {"owed": max(owed, 0.0), "as_of": max(quota.now, quota.as_of)}
    connection.execute(update(QuotaRow).where(QuotaRow.key_id == quota.key_id).values(values))


# Statements, put together once. That a key is not empty is said again, so that SQLite takes the index of owned jobs.

_QUOTA = select(QuotaRow.__table__, now_ms().label("now")).where(QuotaRow.key_id == bindparam("key"))
_LOCKED = _QUOTA.with_for_update()
_OWNED = (JobRow.key_id == bindparam("key"), JobRow.key_id != literal_column("''"), JobRow.deleted_at.is_(None))
_IS_ACCEPTING = JobRow.state == literal_column("'accepting'")
_IS_NO_CALL = JobRow.kind != literal_column("'call'")
_IS_COUNTED = select(JobRow.id).where(JobRow.id == bindparam("job"), _IS_NO_CALL)
_OTHERS = (*_OWNED, JOB_IS_UNFINISHED, _IS_NO_CALL, JobRow.id != bindparam("job"))
_OPEN = select(func.count()).select_from(JobRow).where(*_OTHERS)
#: Split chunks stand for no text: others have taken their place, or their part was cut off.
_STANDS = ChunkRow.state != ChunkState.SPLIT
SEALED_TEXTS = select(func.sum(JobRow.total)).where(*_OWNED)
_ADDED_UP = select(func.sum(ChunkRow.size)).where(ChunkRow.job_id == JobRow.id, _STANDS).scalar_subquery()
#: As they were counted when they came; of a job whose row has no count they are added up.
UNSEALED_TEXTS = select(func.sum(func.coalesce(JobRow.arrived, _ADDED_UP))).where(*_OWNED, _IS_ACCEPTING)
#: Where every text was counted when it came: a program of the version before may have taken some in, and counts none.
_COUNTED = select(JobRow.estimated).where(JobRow.id == bindparam("job"), JobRow.arrived == JobRow.total)
_ESTIMATE = select(func.sum(ChunkRow.token_estimate)).where(ChunkRow.job_id == bindparam("job"), _STANDS)
#: What is on its way counts as far as it is; what a batch writes, only once it is seen and can be deleted.
_IS_COMING = and_(
    FileRow.state == "writing",
    FileRow.purpose != "batch_output",
    FileRow.created_at > now_ms() - _WRITTEN_WITHIN,
)
#: Parts that were joined are counted as the file they became.
_COUNTED_FILE = and_(
    or_(FileRow.state.in_(["part", "ready"]), _IS_COMING),
    or_(FileRow.expires_at.is_(None), FileRow.expires_at > now_ms()),
)
_BYTES = select(func.sum(FileRow.size)).where(FileRow.key_id == bindparam("key"), _COUNTED_FILE)
