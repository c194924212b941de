"""API keys, and what they may have and use."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_OWNED = sa.text("key_id <> '' AND deleted_at IS NULL")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "keys",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
    )
    op.create_table(
        "quotas",
        sa.Column("key_id", sa.String(length=32), nullable=False),
        sa.Column("texts", sa.BigInteger(), nullable=True),
        sa.Column("jobs", sa.BigInteger(), nullable=True),
        sa.Column("tokens_per_minute", sa.BigInteger(), nullable=True),
        sa.Column("owed", sa.Double(), nullable=False),
        sa.Column("as_of", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["keys.id"], name="fk_quotas_key_id"),
        sa.PrimaryKeyConstraint("key_id", name="pk_quotas"),
    )
    # What a key keeps is counted from this index alone (SQLite looks at deleted_at again); jobs without a key are not
    # in it and cost nothing.
    op.create_index(
        "ix_jobs_owned",
        "jobs",
        ["key_id", "state", "total", "deleted_at"],
        unique=False,
        sqlite_where=_OWNED,
        postgresql_where=_OWNED,
    )


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_jobs_owned", table_name="jobs")
    for table in ("quotas", "keys"):
        op.drop_table(table)
