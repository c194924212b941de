"""What a PostgreSQL server needs that SQLite does not: a pool, limits, connections that notice when it is gone."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, ExceptionContext

from storage.faults import PG_READ_ONLY, PG_UNPREPARED

#: How the server looks whether a silent client lives: given up after half a minute, as the client gives it up.
_SERVER_SIDE = {
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "user_timeout": "30000",
}


def postgres_engine(url: URL) -> Engine:
    """Return the engine of a PostgreSQL.

    Args:
        url: Where it is, for psycopg 3.

    Raises:
        ModuleNotFoundError: When psycopg is not installed.
    """
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_pre_ping=True,
        pool_recycle=1800,
        pool_size=8,
        max_overflow=8,
        pool_timeout=30,
        connect_args={
            "connect_timeout": 5,
            "cursor_factory": _binary_cursor(),
            "application_name": "embedmill",
            "tcp_user_timeout": 30_000,
            # A host that vanishes after it has taken a query is noticed after half a minute, not after two hours.
            "keepalives_idle": 15,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            # A database made as SQL_ASCII would otherwise hand out bytes for text.
            "client_encoding": "utf8",
        }
        | _choice_of_host(url),
    )
    sessions = _Sessions()
    event.listen(engine, "connect", sessions.greet)
    event.listen(engine, "handle_error", sessions.judge)
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def _choice_of_host(url: URL) -> dict[str, str]:
    """Return which of several hosts is taken, where the URL does not say it: the one that can be written."""
    # Where there is one, nothing is to choose; `doctor` has to look at it, and says what is wrong.
    named = url.query.get("host", ())
    hosts = ",".join([url.host or "", *([named] if isinstance(named, str) else named)]).strip(",")
    is_open = "," in hosts and "target_session_attrs" not in url.query
    return {"target_session_attrs": "read-write"} if is_open else {}


def _binary_cursor() -> type[Any]:
    """Return psycopg's cursor, but for results in binary: as text a vector's bytes come as twice as many letters."""
    import psycopg

    class BinaryCursor(psycopg.Cursor[Any]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.format = psycopg.pq.Format.BINARY

    return BinaryCursor


def limit(connection: Connection, **limits: str) -> None:
    """Set limits of PostgreSQL for the running transaction alone, which works behind PgBouncer too.

    Args:
        connection: In a transaction.
        **limits: Such as `lock_timeout="5s"`; 0 is none.
    """
    # One statement: a result in binary is always one statement's.
    settings = ", ".join(f"set_config('{name}', '{most}', true)" for name, most in limits.items())
    connection.exec_driver_sql(f"SELECT {settings}")


def allow_longer(connection: Connection) -> None:
    """Let the running transaction's next statements take twice as long as others; of another database, do nothing.

    Whoever has more than one such transaction to do shows in between that it lives.
    """
    if connection.dialect.name == "postgresql":
        limit(connection, statement_timeout="120s")


class _Sessions:
    """What becomes of an engine's connections when they are made, and when one of them answers with an error."""

    def __init__(self) -> None:
        self._prepares = True

    def greet(self, connection: Any, record: Any) -> None:
        """Find out whether a new connection leads to a server process of its own, and have that look whether we live.

        PgBouncer makes up the process that it says a connection belongs to, and hands each transaction to another one,
        which knows no statement that an earlier one prepared. A process of one's own would hold the locks of a host
        that has vanished for two hours; the time-out of an idle transaction does not run while a driver speaks in a
        pipeline.
        """
        (asked,) = connection.execute("SELECT pg_backend_pid()").fetchone()
        if asked != connection.info.backend_pid or not self._prepares:
            connection.prepare_threshold = None
        else:
            settings = ", ".join(f"set_config('tcp_{name}', '{value}', false)" for name, value in _SERVER_SIDE.items())
            connection.execute(f"SELECT {settings}")
        connection.commit()

    def judge(self, context: ExceptionContext) -> None:
        """Let go of connections that work, but lead to the wrong place: new ones are made for whoever comes next."""
        state = getattr(context.original_exception, "sqlstate", None)
        if state in PG_UNPREPARED:
            # A pooler that the greeting did not notice.
            self._prepares = False
        if state in {PG_READ_ONLY, *PG_UNPREPARED}:
            context.is_disconnect = True


def _begin_postgresql(connection: Connection) -> None:
    limit(connection, statement_timeout="60s", lock_timeout="10s", idle_in_transaction_session_timeout="60s")
