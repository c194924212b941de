"""Runs Alembic's steps on the database it was handed."""

from typing import Any

from alembic import context
from sqlalchemy import event

from storage.database import Database
from storage.postgresserver import limit
from storage.tables import Row

database: Database = context.config.attributes["database"]


def _begin(connection: Any) -> None:
    # A DDL that waits for a lock makes everybody else wait behind it: give up soon, and run it again. How long it takes
    # when it has the lock depends on the size of the tables.
    limit(connection, lock_timeout="5s", statement_timeout="0")


with database.engine.connect().execution_options(embedmill_write=True) as connection:
    if not database.is_sqlite:
        event.listen(connection, "begin", _begin)
    context.configure(
        connection=connection,
        target_metadata=Row.metadata,
        render_as_batch=database.is_sqlite,
        transactional_ddl=True,
        # One that others work with is changed step by step: locks of one step are not held while the next one waits for
        # its own. A new one is made whole, or not at all.
        transaction_per_migration=not database.is_sqlite and context.config.attributes["in_use"],
    )
    with context.begin_transaction():
        context.run_migrations()
    if connection.in_transaction():
        connection.commit()
