"""The rows, typed. Times are milliseconds since 1970 on the database's clock; blobs are little-endian.

A chunk's changing part (`chunks`) is kept apart from its texts (`inputs`) and its vectors (`results`), because both
databases write a whole row again when one of its columns changes.
"""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import ForeignKey, Index, String, Table, literal_column, text
from sqlalchemy.orm import Mapped, mapped_column

from storage.filetables import BatchGroupRow, BatchLinesRow, BatchRow, FileBlockRow, FileRow, UploadRow
from storage.keytables import KeyRow, QuotaRow
from storage.parttables import PartedJobRow, PartRow
from storage.rows import JobId, Row, partial_index
from storage.secrettables import SecretRow
from storage.servicetables import ServiceRow
from storage.tokenizertables import TokenizerRow
from storage.webhooktables import WebhookRow, WebhookSecretRow

__all__ = [
    "BatchGroupRow",
    "BatchLinesRow",
    "BatchRow",
    "FileBlockRow",
    "FileRow",
    "KeyRow",
    "PartRow",
    "PartedJobRow",
    "QuotaRow",
    "Row",
    "SecretRow",
    "ServiceRow",
    "TokenizerRow",
    "UploadRow",
    "WebhookRow",
    "WebhookSecretRow",
]


class ModelRow(Row):
    """One model identity that a worker has registered; kept for ever, so that a known model may wait for a worker."""

    __tablename__ = "models"
    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    revision: Mapped[str]
    precision: Mapped[str]
    card: Mapped[dict[str, Any]]
    first_seen: Mapped[int]
    last_seen: Mapped[int]


class WorkerRow(Row):
    """One start of one worker process; what may be null is what those of the version before do not tell."""

    __tablename__ = "workers"
    id: Mapped[str] = mapped_column(JobId, primary_key=True)
    model_id: Mapped[str] = mapped_column(String(16), ForeignKey("models.id"), index=True)
    host: Mapped[str]
    pid: Mapped[int]
    device: Mapped[str]
    started_at: Mapped[int]
    last_seen: Mapped[int]
    version: Mapped[str | None]
    schema_version: Mapped[str | None]
    tokens_per_second: Mapped[float | None]
    batch_fill: Mapped[float | None]
    padding_share: Mapped[float | None]
    memory: Mapped[int | None]
    gpu_memory: Mapped[int | None]
    gpu_memory_total: Mapped[int | None]


class JobRow(Row):
    """One job; its counters are derived from its chunks."""

    __tablename__ = "jobs"
    id: Mapped[str] = mapped_column(JobId, primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    model: Mapped[str]
    revision: Mapped[str | None]
    model_id: Mapped[str | None] = mapped_column(String(16), ForeignKey("models.id"))
    priority: Mapped[int]
    options: Mapped[dict[str, Any]]
    key_id: Mapped[str] = mapped_column(String(32), default="")
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    payload_hash: Mapped[str | None] = mapped_column(String(64))
    total: Mapped[int] = mapped_column(default=0)
    chunk_count: Mapped[int] = mapped_column(default=0)
    has_ids: Mapped[bool] = mapped_column(default=False)
    generation: Mapped[int] = mapped_column(default=0)
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[int]
    touched_at: Mapped[int]
    started_at: Mapped[int | None]
    finished_at: Mapped[int | None]
    deleted_at: Mapped[int | None]
    expires_at: Mapped[int | None]
    keep_for: Mapped[int | None]
    keep_texts_for: Mapped[int | None]
    kept_until: Mapped[int | None]
    texts_until: Mapped[int | None]
    texts_gone_at: Mapped[int | None]
    kind: Mapped[str] = mapped_column(String(16), default="job", server_default="job")
    name: Mapped[str | None]
    labels: Mapped[dict[str, Any] | None]
    #: Of an ended job: up to this number its chunks are settled; null once all are. See `storage/settling.py`.
    unsettled_after: Mapped[int | None]
    #: From this position on failed items are still to go round again; null once all have. See `storage/retries.py`.
    unretried_from: Mapped[int | None]
    #: Texts, and tokens as estimated, that have come in so far; null where nobody counted them.
    arrived: Mapped[int | None]
    estimated: Mapped[int | None]

    __table_args__ = (
        Index(
            "ix_jobs_open",
            "model_id",
            "priority",
            "key_id",
            "created_at",
            "id",
            # It is, by its id; told so, SQLite reads chunks in order instead of sorting all that are pending.
            unique=True,
            sqlite_where=text("state IN ('queued', 'running')"),
            postgresql_where=text("state IN ('queued', 'running')"),
        ),
        Index("ix_jobs_idempotency", "key_id", "idempotency_key", unique=True),
        Index("ix_jobs_created_at", "created_at"),
        partial_index("ix_jobs_expires_at", "expires_at", "expires_at IS NOT NULL AND finished_at IS NULL"),
        partial_index("ix_jobs_unfinished", "model", "state IN ('accepting', 'queued', 'running')"),
        partial_index("ix_jobs_deleted_at", "deleted_at", "deleted_at IS NOT NULL"),
        partial_index("ix_jobs_finished_at", "finished_at", "finished_at IS NOT NULL"),
        partial_index("ix_jobs_kept_until", "kept_until", "kept_until IS NOT NULL AND deleted_at IS NULL"),
        partial_index("ix_jobs_texts_until", "texts_until", "texts_until IS NOT NULL"),
        partial_index("ix_jobs_calls", "finished_at", "kind = 'call' AND finished_at IS NOT NULL"),
        partial_index("ix_jobs_listed", "key_id", "id", "kind = 'job' AND deleted_at IS NULL"),
        partial_index("ix_jobs_owned", "key_id", "state", "total", "deleted_at", "key_id <> '' AND deleted_at IS NULL"),
        partial_index("ix_jobs_unsettled", "id", "unsettled_after IS NOT NULL"),
        partial_index("ix_jobs_unretried", "id", "unretried_from IS NOT NULL"),
    )


class ChunkRow(Row):
    """Where one chunk stands: its lease, its fencing token and its counts."""

    __tablename__ = "chunks"
    job_id: Mapped[str] = mapped_column(JobId, ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[str] = mapped_column(String(16))
    first: Mapped[int]
    size: Mapped[int]
    token_estimate: Mapped[int]
    token: Mapped[int] = mapped_column(default=0)
    lease_owner: Mapped[str | None] = mapped_column(JobId)
    lease_expires: Mapped[int | None]
    claims: Mapped[int] = mapped_column(default=0)
    crashes: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0, server_default="0")
    not_before: Mapped[int | None]
    dispatched_at: Mapped[int | None]
    done_at: Mapped[int | None]
    invalid: Mapped[int] = mapped_column(default=0)
    succeeded: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    truncated: Mapped[int] = mapped_column(default=0)
    tokens: Mapped[int] = mapped_column(default=0)

    __table_args__ = (
        partial_index("ix_chunks_pending", "job_id", "number", "state = 'pending'"),
        Index("ix_chunks_first", "job_id", "first"),
        partial_index("ix_chunks_failed", "job_id", "first", "failed > 0"),
        Index(
            "ix_chunks_out",
            "state",
            "job_id",
            # SQLite sees that `state = 'leased'` implies this only when it is written so.
            sqlite_where=text("state = 'dispatched' OR state = 'leased'"),
            postgresql_where=text("state IN ('dispatched', 'leased')"),
        ),
    )


class InputRow(Row):
    """The texts of one chunk, and what could be judged of them at the door."""

    __tablename__ = "inputs"
    job_id: Mapped[str] = mapped_column(JobId, primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    texts: Mapped[bytes]
    ids: Mapped[str | None]
    id_hashes: Mapped[bytes | None]
    invalid: Mapped[dict[str, Any] | None]


class ResultRow(Row):
    """The vectors and errors of one chunk, as the attempt with this token committed them."""

    __tablename__ = "results"
    job_id: Mapped[str] = mapped_column(JobId, primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    token: Mapped[int]
    width: Mapped[int]
    dtype: Mapped[str] = mapped_column(String(16))
    vectors: Mapped[bytes]
    tokens: Mapped[bytes]
    lengths: Mapped[bytes]
    errors: Mapped[dict[str, Any] | None]


class LeaderRow(Row):
    """Which process does a duty that only one should do at a time; and which models calls want (`WantedStore`)."""

    __tablename__ = "leaders"
    duty: Mapped[str] = mapped_column(String(32), primary_key=True)
    owner: Mapped[str] = mapped_column(JobId)
    expires: Mapped[int]


class CounterRow(Row):
    """How often one defence was needed, by all processes together, since the schema was made."""

    __tablename__ = "counters"
    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[int]


# The tables by themselves: statements on the rows' classes go through the ORM, which takes as long again.
JOBS, CHUNKS, INPUTS, RESULTS, WORKERS = (
    cast(Table, row.__table__) for row in (JobRow, ChunkRow, InputRow, ResultRow, WorkerRow)
)

# Conditions of the partial indexes, with literals: a planner cannot match a bound parameter with an index's condition.
JOB_IS_UNFINISHED = JobRow.state.in_([literal_column(f"'{state}'") for state in ("accepting", "queued", "running")])
JOB_IS_OPEN = JobRow.state.in_([literal_column("'queued'"), literal_column("'running'")])
JOB_IS_CALL = JobRow.kind == literal_column("'call'")
JOB_IS_LISTED = (JobRow.kind == literal_column("'job'")) & JobRow.deleted_at.is_(None)
CHUNK_IS_PENDING = ChunkRow.state == literal_column("'pending'")
CHUNK_IS_DISPATCHED = ChunkRow.state == literal_column("'dispatched'")
CHUNK_IS_LEASED = ChunkRow.state == literal_column("'leased'")
CHUNK_HAS_FAILED = ChunkRow.failed > literal_column("0")
