"""Runs Alembic's steps on the database it was handed."""

from alembic import context

from storage.database import Database, limit
from storage.tables import Row

database: Database = context.config.attributes["database"]

with database.engine.connect().execution_options(embedmill_write=True) as connection:
    context.configure(
        connection=connection,
        target_metadata=Row.metadata,
        render_as_batch=database.is_sqlite,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        if not database.is_sqlite:
            # A DDL that waits for a lock makes everybody else wait behind it: give up soon, and run it again. How long
            # it takes when it has the lock depends on the size of the tables.
            limit(connection, lock_timeout="5s", statement_timeout="0")
        context.run_migrations()
    connection.commit()
