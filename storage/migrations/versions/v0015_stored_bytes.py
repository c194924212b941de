"""A key's quota may say how many bytes of files are kept for it."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    # A column without a value: no row is written, and no key gets a limit that it had not.
    op.add_column("quotas", sa.Column("stored_bytes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Take back."""
    op.drop_column("quotas", "stored_bytes")
