"""Runs Alembic's steps on the database it was handed."""

from alembic import context

from storage.database import Database
from storage.tables import Row

database: Database = context.config.attributes["database"]

with database.engine.connect().execution_options(embedmill_write=True) as connection:
    if not database.is_sqlite:
        # A DDL that waits for a lock makes everybody else wait behind it: give up soon, and run it again.
        connection.exec_driver_sql("SET lock_timeout = '5s'")
        connection.commit()
    context.configure(
        connection=connection,
        target_metadata=Row.metadata,
        render_as_batch=database.is_sqlite,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
