"""The ends of jobs are told to webhooks."""

import sqlalchemy as sa
from alembic import op

from storage.rows import JobId

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_WAITING, _PENDING = sa.text("state = 'waiting'"), sa.text("state = 'pending'")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "webhooks",
        sa.Column("id", JobId, nullable=False),
        sa.Column("job_id", JobId, nullable=False),
        sa.Column("key_id", sa.String(length=32), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("message_id", JobId, nullable=True),
        sa.Column("payload", sa.Text(), nullable=True),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=True),
        sa.Column("last_status", sa.BigInteger(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("delivered_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
    )
    op.create_index("ix_webhooks_job_id_url", "webhooks", ["job_id", "url"], unique=True)
    op.create_index("ix_webhooks_waiting", "webhooks", ["job_id"], sqlite_where=_WAITING, postgresql_where=_WAITING)
    op.create_index("ix_webhooks_pending", "webhooks", ["next_at"], sqlite_where=_PENDING, postgresql_where=_PENDING)
    op.create_table(
        "webhook_secrets",
        sa.Column("key_id", sa.String(length=32), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=True),
        sa.Column("rotated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="pk_webhook_secrets"),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("webhook_secrets")
    op.drop_table("webhooks")
