"""How PostgreSQL lays the tables out and keeps them clean; and the indexes by which jobs that are to go are found."""

from alembic import op

from storage.migrations.indexes import make_partial_indexes

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

#: Bytes that no compression makes smaller: PostgreSQL need not try, and reads a part of them without the rest.
_INCOMPRESSIBLE = {
    "inputs": ("id_hashes",),
    "file_blocks": ("data",),
    "batch_lines": ("data",),
    "tokenizers": ("definition",),
}

#: How a table is kept, as `ALTER TABLE ... SET` takes it.
_KEPT = {
    # Each chunk is updated about four times: the dead rows of one in fifty are much, and the planner must know soon
    # how many are pending. Room in its page (since 0001) keeps heartbeats out of the indexes, which know no lease; what
    # changes a state goes into those of states.
    "chunks": "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,"
    " autovacuum_analyze_scale_factor = 0.02, autovacuum_analyze_threshold = 2000",
    "jobs": "fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500,"
    " autovacuum_analyze_scale_factor = 0.05",
    # Written once and removed in bulk: by the default the room of a fifth of all vectors would have to be free before
    # anything of it is used again.
    "inputs": "autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_vacuum_scale_factor = 0.05",
    "results": "autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_vacuum_scale_factor = 0.05",
    "file_blocks": "toast.autovacuum_vacuum_scale_factor = 0.05",
    # A few rows, updated every second for years: half a page free lets each update stay on its page.
    "workers": "fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500",
    "leaders": "fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500",
    "counters": "fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500",
    "quotas": "fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500",
}

_INDEXES = {
    "ix_jobs_kept_until": ("kept_until", "kept_until IS NOT NULL AND deleted_at IS NULL"),
    "ix_jobs_texts_until": ("texts_until", "texts_until IS NOT NULL"),
}


def upgrade() -> None:
    """Apply; whatever of it was done before it was cut off is passed over."""
    if op.get_bind().dialect.name == "postgresql":
        for table, columns in _INCOMPRESSIBLE.items():
            for column in columns:
                op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL")
        for table, settings in _KEPT.items():
            op.execute(f"ALTER TABLE {table} SET ({settings})")
    make_partial_indexes("jobs", _INDEXES)


def downgrade() -> None:
    """Take back; how the tables are laid out may stay."""
    for name in _INDEXES:
        op.drop_index(name, table_name="jobs")
