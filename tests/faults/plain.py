"""A database as plain SQL sees it: sqlite3 or psycopg, and nothing of the program under test."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

#: Written by the database itself, in the transaction that writes a result: a unique key would hide a second one.
_SQLITE_LOG = """
CREATE TABLE commit_log (id INTEGER PRIMARY KEY, job_id TEXT, number INTEGER, token INTEGER);
CREATE TRIGGER log_insert AFTER INSERT ON results
    BEGIN INSERT INTO commit_log (job_id, number, token) VALUES (new.job_id, new.number, new.token); END;
CREATE TRIGGER log_update AFTER UPDATE ON results
    BEGIN INSERT INTO commit_log (job_id, number, token) VALUES (new.job_id, new.number, new.token); END;
"""

_POSTGRES_LOG = """
CREATE TABLE commit_log (id BIGSERIAL PRIMARY KEY, job_id TEXT, number BIGINT, token BIGINT);
CREATE FUNCTION log_commit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    INSERT INTO commit_log (job_id, number, token) VALUES (new.job_id::text, new.number, new.token); RETURN new;
END $$;
CREATE TRIGGER log_commit AFTER INSERT OR UPDATE ON results FOR EACH ROW EXECUTE FUNCTION log_commit();
"""


class PlainDatabase:
    """One connection, made again when it was lost; every statement is its own transaction.

    Args:
        url: `sqlite:///` and a path, or what libpq takes.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = urlsplit(url).scheme == "sqlite"
        self._connection: Any = None

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query, or none for a statement without any; a parameter is written `?`.

        Raises:
            ConnectionError: When the database cannot be reached.
        """
        try:
            if self._connection is None:
                self._connection = self._connected()
            if self.is_sqlite:
                return list(self._connection.execute(sql, parameters))
            done = self._connection.execute(sql.replace("?", "%s") if parameters else sql, parameters or None)
            return list(done) if done.description else []
        except self._lost as error:
            self.close()
            raise ConnectionError(str(error)) from error

    def value(self, sql: str, *parameters: Any) -> Any:
        """Return the first column of the first row, or None."""
        rows = self.rows(sql, parameters)
        return rows[0][0] if rows else None

    def install_log(self) -> None:
        """Have the database write down every result that is stored."""
        if self.is_sqlite:
            self.value("SELECT 1")
            self._connection.executescript(_SQLITE_LOG)
        else:
            self.rows(_POSTGRES_LOG)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> Any:
        if self.is_sqlite:
            path = self.url.removeprefix("sqlite:///")
            return sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        import psycopg

        return psycopg.connect(self.url, autocommit=True, connect_timeout=5)

    @property
    def _lost(self) -> type[Exception]:
        if self.is_sqlite:
            return sqlite3.OperationalError
        import psycopg

        return psycopg.OperationalError
