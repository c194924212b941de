"""PostgreSQL through PgBouncer, which hands each transaction to another connection, and over TLS."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from storage.contract.errors import StorageUnavailable
from storage.database import SCHEMA_VERSION, Database
from storage.migrations import migrate
from tests.faults.forms import full
from tests.faults.running import running_mill
from tests.machines.authority import Authority
from tests.machines.pgbouncer import PgBouncer, running_pgbouncer
from tests.servers import PostgresServer, running_postgres
from tests.stack import free_port


@pytest.fixture
def name(postgres_server: PostgresServer) -> Iterator[str]:
    """Name of an empty database."""
    name = postgres_server.create()
    yield name
    postgres_server.drop(name)


@pytest.fixture
def pooler(postgres_server: PostgresServer) -> Iterator[PgBouncer]:
    with running_pgbouncer(postgres_server, pool=2) as pooler:
        yield pooler


@full
def test_a_mill_works_through_a_pooler_with_fewer_connections_than_processes_have() -> None:
    with running_mill("postgresql", workers=2, pooled=True) as mill:
        for _ in range(3):
            mill.start_producer(200, length=2_000)
        mill.wait_for(lambda: len(mill.ledger.accepted()) == 3)
        mill.wait_complete()


def test_statements_are_prepared_on_connections_of_our_own_alone(
    postgres_server: PostgresServer, pooler: PgBouncer, name: str
) -> None:
    prepared = text("SELECT count(*) FROM pg_prepared_statements")
    for url, is_pooled in ((postgres_server.url(name), False), (pooler.url(name), True)):
        database = Database(url)
        # Given two connections that use the same statement again and again, in turn
        with database.engine.connect() as one, database.engine.connect() as other:
            for number in range(20):
                for connection in (one, other):
                    with connection.begin():
                        assert (
                            connection.execute(text("SELECT CAST(:n AS int) + 1"), {"n": number}).scalar() == number + 1
                        )
            # Then it is prepared where that is known to hold
            with one.begin():
                assert (one.execute(prepared).scalar() == 0) == is_pooled
        database.close()


def test_the_limits_of_a_transaction_end_with_it(pooler: PgBouncer, name: str) -> None:
    database = Database(pooler.url(name))
    with database.read() as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "1min"
    # Nobody else who gets one of these connections has them
    with psycopg.connect(pooler.url(name), autocommit=True) as stranger:
        for setting in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            assert stranger.execute(f"SHOW {setting}").fetchone() == ("0",)
    database.close()


def test_a_server_looks_whether_we_live_but_not_for_others_behind_a_pooler() -> None:
    with running_postgres(free_port()) as server:
        database = Database(server.url("postgres", server.port))
        with database.read() as connection:
            for setting, value in (("tcp_keepalives_idle", "15"), ("tcp_user_timeout", "30000")):
                assert connection.exec_driver_sql(f"SHOW {setting}").scalar() == value
        database.close()
        with running_pgbouncer(server, pool=1) as pooler:
            database = Database(pooler.url("postgres"))
            with database.read():
                pass
            database.close()
            with psycopg.connect(pooler.url("postgres")) as stranger:
                assert stranger.execute("SHOW tcp_user_timeout").fetchone() == ("0",)


def test_a_schema_is_made_through_a_pooler(pooler: PgBouncer, name: str) -> None:
    database = Database(pooler.url(name))
    migrate(database)
    assert database.schema_version() == SCHEMA_VERSION
    with database.read(one_moment=True) as connection:
        assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "repeatable read"
    database.close()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (None, ""),
        ("nobody vouches for it", "certificate verify failed"),
        ("its time is over", "certificate verify failed|expired"),
        ("it is another host's", "does not match host name"),
        ("it has none", "does not support SSL"),
        ("no file", "root certificate file .* does not exist"),
    ],
)
def test_a_server_is_believed_with_a_good_certificate_alone(
    postgres_server: PostgresServer, authority: Authority, tmp_path: Path, wrong: str | None, told: str
) -> None:
    ca = tmp_path / "nowhere.pem" if wrong == "no file" else authority.file
    certificate = {
        "nobody vouches for it": lambda: Authority(tmp_path / "stranger").certify("127.0.0.1"),
        "its time is over": lambda: authority.certify("127.0.0.1", expired=True),
        "it is another host's": lambda: authority.certify("db.example.org"),
        "it has none": lambda: None,
    }.get(wrong or "", lambda: authority.certify("127.0.0.1"))()
    with running_pgbouncer(postgres_server, certificate) as pooler:
        database = Database(pooler.url("postgres", f"sslmode=verify-full&sslrootcert={ca}"))
        if wrong is None:
            with database.read() as connection:
                assert connection.exec_driver_sql("SELECT 1").scalar() == 1
                assert connection.connection.dbapi_connection.pgconn.ssl_in_use
        else:
            with pytest.raises(StorageUnavailable) as raised, database.read():
                pass
            assert re.search(told, str(raised.value)) and "sslrootcert" in str(raised.value)
        database.close()


def test_a_server_that_goes_away_is_away_and_its_certificate_is_not_to_blame(
    postgres_server: PostgresServer, authority: Authority
) -> None:
    # Given a connection over TLS
    with running_pgbouncer(postgres_server, authority.certify("127.0.0.1")) as pooler:
        database = Database(pooler.url("postgres", f"sslmode=verify-full&sslrootcert={authority.file}"))
        # When it is ended in the midst of a transaction
        with pytest.raises(StorageUnavailable) as raised, database.read() as connection:
            connection.exec_driver_sql("SELECT 1")
            pooler.stop()
            connection.exec_driver_sql("SELECT 1")
        # Then that is said, though the driver speaks of TLS
        assert "does not answer" in str(raised.value) and "that the server runs" in str(raised.value)
        database.close()
