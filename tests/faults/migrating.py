"""`python -m tests.faults.migrating URL [STATEMENT]`: `embedmill migrate`, killed before a statement if one is given.

`FAULTS_HISTORY` names a folder with another history of the schema than the program's own.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

import storage.migrations
from embedmill.cli import main as embedmill
from storage.database import SCHEMA_VERSION
from worker.parent import die_with_parent

#: In the environment, with a folder that `longer_history` made.
HISTORY = "FAULTS_HISTORY"

_STEP = f'''"""A step of a release to come: it needs the table that everybody uses for itself."""

import sqlalchemy as sa
from alembic import op

revision = "9001"
down_revision = "{SCHEMA_VERSION}"


def upgrade():
    op.add_column("chunks", sa.Column("flour", sa.String(8), nullable=True))
    op.create_index("ix_chunks_flour", "chunks", ["flour"])
'''


def longer_history(folder: Path) -> Path:
    """Copy the schema's history and add a step to it; return the copy."""
    copy = folder / "history"
    shutil.copytree(Path(storage.migrations.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "versions" / "v9001_flour.py").write_text(_STEP)
    return copy


def main() -> None:
    """Migrate as a user would."""
    die_with_parent()
    url, *statement = sys.argv[1:]
    if history := os.environ.get(HISTORY):
        storage.migrations.__file__ = str(Path(history) / "__init__.py")
    if statement:
        left = int(statement[0])

        def die(*args: Any) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        event.listen(Engine, "before_cursor_execute", die)
        # The kill that matters most: all is written, nothing is committed.
        event.listen(Engine, "commit", die)
    sys.argv[1:] = ["migrate", "--database-url", url]
    embedmill()


if __name__ == "__main__":
    main()
