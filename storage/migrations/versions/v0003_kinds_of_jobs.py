"""Jobs have a kind, a name and labels: those of one call to an embedding server are not listed among the others."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("jobs", sa.Column("kind", sa.String(length=16), server_default="job", nullable=False))
    op.add_column("jobs", sa.Column("name", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("labels", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    """Take back."""
    for column in ("labels", "name", "kind"):
        op.drop_column("jobs", column)
