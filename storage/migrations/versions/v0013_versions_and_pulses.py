"""Workers tell how they are and which program they run; so do the service's processes, in a table of their own."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_COLUMNS: dict[str, sa.types.TypeEngine[Any]] = {
    "version": sa.Text(),
    "schema_version": sa.Text(),
    "tokens_per_second": sa.Double(),
    "batch_fill": sa.Double(),
    "padding_share": sa.Double(),
    "memory": sa.BigInteger(),
    "gpu_memory": sa.BigInteger(),
    "gpu_memory_total": sa.BigInteger(),
}


def upgrade() -> None:
    """Apply."""
    # Columns without a value: no row is written, and the version before goes on without them.
    for name, kind in _COLUMNS.items():
        op.add_column("workers", sa.Column(name, kind, nullable=True))
    op.create_table(
        "services",
        sa.Column("id", sa.Uuid(as_uuid=False).with_variant(sa.String(36), "sqlite"), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("schema_version", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_services")),
    )
    if op.get_bind().dialect.name == "postgresql":
        # A few rows that are updated for years, as those of workers are: each update stays on its page.
        kept = "fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500"
        op.execute(f"ALTER TABLE services SET ({kept})")


def downgrade() -> None:
    """Take back."""
    op.drop_table("services")
    for name in _COLUMNS:
        op.drop_column("workers", name)
