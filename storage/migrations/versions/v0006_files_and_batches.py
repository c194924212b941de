"""OpenAI's files, uploads and batches."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ID = sa.Uuid(as_uuid=False).with_variant(sa.String(length=36), "sqlite")


def _key(name: str = "id") -> sa.Column[Any]:
    return sa.Column(name, sa.String(length=64), nullable=False)


def _number(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _word(name: str, length: int, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length=length), nullable=nullable)


def _index(name: str, table: str, column: str, where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, [column], unique=False, sqlite_where=condition, postgresql_where=condition)


def upgrade() -> None:
    """Apply."""
    _files()
    _batches()


def _files() -> None:
    op.create_table(
        "files",
        _key(),
        _word("key_id", 32),
        _word("state", 16),
        _word("purpose", 32),
        sa.Column("filename", sa.Text(), nullable=False),
        _number("size"),
        _word("sha256", 64, True),
        _word("upload_id", 64, True),
        sa.Column("parts", sa.JSON(none_as_null=True), nullable=True),
        _number("created_at"),
        _number("expires_at", True),
        sa.PrimaryKeyConstraint("id", name="pk_files"),
    )
    op.create_index("ix_files_key_id", "files", ["key_id", "id"], unique=False)
    _index("ix_files_upload_id", "files", "upload_id", "upload_id IS NOT NULL")
    _index("ix_files_expires_at", "files", "expires_at", "expires_at IS NOT NULL")
    op.create_table(
        "file_blocks",
        _key("file_id"),
        _number("number"),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("file_id", "number", name="pk_file_blocks"),
    )
    op.create_table(
        "uploads",
        _key(),
        _word("key_id", 32),
        _word("state", 16),
        _word("purpose", 32),
        sa.Column("filename", sa.Text(), nullable=False),
        _number("size"),
        _word("file_id", 64, True),
        _number("file_life", True),
        _number("created_at"),
        _number("expires_at"),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
    )
    _index("ix_uploads_pending", "uploads", "expires_at", "state = 'pending'")


def _batches() -> None:
    moments = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
    op.create_table(
        "batches",
        _key(),
        _word("key_id", 32),
        _word("state", 16),
        _word("input_file_id", 64),
        sa.Column("endpoint", sa.Text(), nullable=False),
        _word("completion_window", 16),
        _number("output_life", True),
        sa.Column("labels", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("errors", sa.JSON(none_as_null=True), nullable=True),
        _word("output_file_id", 64, True),
        _word("error_file_id", 64, True),
        _number("total"),
        _number("completed"),
        _number("failed"),
        _number("tokens"),
        _number("created_at"),
        _number("expires_at"),
        *(_number(f"{moment}_at", True) for moment in moments),
        sa.Column("lease_owner", _ID, nullable=True),
        _number("lease_expires", True),
        sa.PrimaryKeyConstraint("id", name="pk_batches"),
    )
    op.create_index("ix_batches_key_id", "batches", ["key_id", "id"], unique=False)
    _index("ix_batches_unfinished", "batches", "id", "state IN ('validating', 'in_progress', 'finalizing')")
    op.create_table(
        "batch_groups",
        _key("batch_id"),
        _number("number"),
        sa.Column("job_id", _ID, nullable=True),
        sa.Column("model", sa.Text(), nullable=False),
        _number("lines"),
        _number("items"),
        sa.PrimaryKeyConstraint("batch_id", "number", name="pk_batch_groups"),
    )
    op.create_table(
        "batch_lines",
        _key("batch_id"),
        _number("number"),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "number", name="pk_batch_lines"),
    )


def downgrade() -> None:
    """Take back."""
    for table in ("batch_lines", "batch_groups", "batches", "uploads", "file_blocks", "files"):
        op.drop_table(table)
