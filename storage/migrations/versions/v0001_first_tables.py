"""The first tables: models, workers, jobs, chunks, inputs, results, leaders."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_JOB_ID = sa.Uuid(as_uuid=False).with_variant(sa.String(length=36), "sqlite")


def upgrade() -> None:
    """Apply."""
    _inputs()
    _leaders()
    _models()
    _results()
    _jobs()
    _workers()
    _chunks()
    if op.get_bind().dialect.name == "postgresql":
        _lay_out()


def _inputs() -> None:
    op.create_table(
        "inputs",
        sa.Column("job_id", _JOB_ID, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("texts", sa.LargeBinary(), nullable=False),
        sa.Column("ids", sa.Text(), nullable=True),
        sa.Column("id_hashes", sa.LargeBinary(), nullable=True),
        sa.Column("invalid", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_inputs"),
    )


def _leaders() -> None:
    op.create_table(
        "leaders",
        sa.Column("duty", sa.String(length=32), nullable=False),
        sa.Column("owner", _JOB_ID, nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("duty", name="pk_leaders"),
    )


def _models() -> None:
    op.create_table(
        "models",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("precision", sa.Text(), nullable=False),
        sa.Column("card", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
    )
    op.create_index("ix_models_name", "models", ["name"], unique=False)


def _results() -> None:
    op.create_table(
        "results",
        sa.Column("job_id", _JOB_ID, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("width", sa.BigInteger(), nullable=False),
        sa.Column("dtype", sa.String(length=16), nullable=False),
        sa.Column("vectors", sa.LargeBinary(), nullable=False),
        sa.Column("tokens", sa.LargeBinary(), nullable=False),
        sa.Column("lengths", sa.LargeBinary(), nullable=False),
        sa.Column("errors", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_results"),
    )


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", _JOB_ID, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=True),
        sa.Column("model_id", sa.String(length=16), nullable=True),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("options", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("key_id", sa.String(length=32), nullable=False),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("payload_hash", sa.String(length=64), nullable=True),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("chunk_count", sa.BigInteger(), nullable=False),
        sa.Column("has_ids", sa.Boolean(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("touched_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_jobs_model_id"),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_created_at", "jobs", ["created_at"], unique=False)
    op.create_index("ix_jobs_idempotency", "jobs", ["key_id", "idempotency_key"], unique=True)
    op.create_index(
        "ix_jobs_open",
        "jobs",
        ["model_id", "priority", "key_id", "created_at", "id"],
        unique=True,
        sqlite_where=sa.text("state IN ('queued', 'running')"),
        postgresql_where=sa.text("state IN ('queued', 'running')"),
    )


def _workers() -> None:
    op.create_table(
        "workers",
        sa.Column("id", _JOB_ID, nullable=False),
        sa.Column("model_id", sa.String(length=16), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_workers_model_id"),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
    )
    op.create_index("ix_workers_model_id", "workers", ["model_id"], unique=False)


def _chunks() -> None:
    op.create_table(
        "chunks",
        sa.Column("job_id", _JOB_ID, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("token_estimate", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("lease_owner", _JOB_ID, nullable=True),
        sa.Column("lease_expires", sa.BigInteger(), nullable=True),
        sa.Column("claims", sa.BigInteger(), nullable=False),
        sa.Column("crashes", sa.BigInteger(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=True),
        sa.Column("dispatched_at", sa.BigInteger(), nullable=True),
        sa.Column("done_at", sa.BigInteger(), nullable=True),
        sa.Column("invalid", sa.BigInteger(), nullable=False),
        sa.Column("succeeded", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("truncated", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_chunks_job_id"),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_chunks"),
    )
    op.create_index("ix_chunks_first", "chunks", ["job_id", "first"], unique=False)
    op.create_index(
        "ix_chunks_out",
        "chunks",
        ["state", "job_id"],
        unique=False,
        sqlite_where=sa.text("state = 'dispatched' OR state = 'leased'"),
        postgresql_where=sa.text("state IN ('dispatched', 'leased')"),
    )
    op.create_index(
        "ix_chunks_pending",
        "chunks",
        ["job_id", "number"],
        unique=False,
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )


def _lay_out() -> None:
    # Compressed texts and floats do not compress again: keep PostgreSQL from trying.
    op.execute("ALTER TABLE inputs ALTER COLUMN texts SET STORAGE EXTERNAL")
    op.execute("ALTER TABLE results ALTER COLUMN vectors SET STORAGE EXTERNAL")
    # A chunk is updated about four times; room in its page keeps those updates out of the indexes.
    op.execute("ALTER TABLE chunks SET (fillfactor = 70)")
