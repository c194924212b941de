"""Tokenizers that workers registered, so that those who have no model can show what becomes of a text."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "tokenizers",
        sa.Column("model_id", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("rules", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("definition", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_tokenizers_model_id_models"),
        sa.PrimaryKeyConstraint("model_id", name="pk_tokenizers"),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("tokenizers")
