"""The roles that PostgreSQL has for each side: made as an administrator makes them, granted by a migration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from storage.contract.errors import InvalidOption, StorageUnavailable
from storage.database import Database
from storage.migrations import migrate
from storage.rights import RIGHTS, Side, grant, missing
from storage.tables import Row
from tests.servers import PostgresServer, running_postgres
from tests.storage.rolemaking import NAMES, as_role, make_roles


@pytest.fixture(scope="module")
def granted(postgres_server: PostgresServer) -> Iterator[str]:
    """Name of a database that was made before there were roles, got them, and was migrated by its new owner."""
    name = postgres_server.create()
    old = Database(postgres_server.url(name))
    migrate(old, "0001")
    old.close()
    make_roles(postgres_server.url(name))
    owner = as_role(postgres_server.url(name), "embedmill_owner")
    migrate(owner)
    grant(owner, NAMES)
    owner.close()
    yield name
    postgres_server.drop(name)


def test_every_table_is_in_somebody_s_rights() -> None:
    known = {table for rights in RIGHTS.values() for table in rights}
    assert known == {table.name for table in Row.metadata.sorted_tables} | {"alembic_version"}


def test_roles_can_be_made_and_rights_granted_again_and_again(postgres_server: PostgresServer, granted: str) -> None:
    make_roles(postgres_server.url(granted))
    owner = as_role(postgres_server.url(granted), "embedmill_owner")
    grant(owner, NAMES)
    owner.close()


def test_an_administrator_who_is_no_superuser_makes_the_roles_too() -> None:
    # Given a server that somebody else manages, and a database with tables on it from before there were roles
    with running_postgres() as server:
        server.execute("CREATE ROLE landlord LOGIN CREATEROLE CREATEDB")
        server.execute("CREATE DATABASE mill OWNER landlord TEMPLATE template0 ENCODING 'UTF8'")
        url = server.url("mill").replace("postgres@", "landlord@", 1)
        with closing(Database(url)) as old:
            migrate(old, "0001")
        # When its administrator makes the roles, and once more
        told = make_roles(url)
        make_roles(url)
        # Then he is told what he may not do
        assert "pg_read_all_stats" in told and "flour" not in told
        # And each role has what its side needs, and no more
        with closing(as_role(server.url("mill"), "embedmill_owner")) as owner:
            migrate(owner)
            grant(owner, NAMES)
        for side, name in NAMES.items():
            with closing(as_role(server.url("mill"), name)) as database, database.read() as connection:
                assert missing(connection, side) == []


def test_a_role_that_may_do_more_than_it_needs_loses_that(postgres_server: PostgresServer, granted: str) -> None:
    postgres_server.execute("ALTER ROLE embedmill_api SUPERUSER CREATEDB CREATEROLE REPLICATION")
    make_roles(postgres_server.url(granted))
    with closing(Database(postgres_server.url(granted))) as database, database.read() as connection:
        powers = "rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR NOT rolcanlogin"
        assert not connection.scalar(text(f"SELECT {powers} FROM pg_roles WHERE rolname = 'embedmill_api'"))


@pytest.mark.parametrize("side", Side)
def test_a_role_has_what_its_side_needs(postgres_server: PostgresServer, granted: str, side: Side) -> None:
    database = as_role(postgres_server.url(granted), NAMES[side])
    database.check_schema()
    with database.read() as connection:
        assert missing(connection, side) == []
        (other,) = set(Side) - {side}
        assert missing(connection, other) != []
    database.close()


#: What neither may do, and what only one of them may not.
_NEITHER = [
    "CREATE TABLE mine (id int)",
    "CREATE TEMPORARY TABLE mine (id int)",
    "CREATE SCHEMA mine",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "ALTER TABLE jobs ADD COLUMN mine int",
    "DROP TABLE results",
    "TRUNCATE jobs",
    "CREATE INDEX mine ON jobs (id)",
    "UPDATE alembic_version SET version_num = '9999'",
    "SET ROLE embedmill_owner",
    "COPY jobs TO PROGRAM 'cat'",
]
_ALONE = {
    Side.API: [
        "INSERT INTO results (job_id, number) VALUES (gen_random_uuid(), 0)",
        "UPDATE results SET vectors = ''",
        "DELETE FROM workers",
        "UPDATE models SET name = ''",
        "DELETE FROM keys",
    ],
    Side.WORKER: [
        "SELECT * FROM keys",
        "SELECT * FROM secrets",
        "SELECT * FROM webhook_secrets",
        "SELECT * FROM file_blocks",
        "INSERT INTO jobs (id) VALUES (gen_random_uuid())",
    ],
}


@pytest.mark.parametrize("side", Side)
def test_a_role_may_do_nothing_else(postgres_server: PostgresServer, granted: str, side: Side) -> None:
    database = as_role(postgres_server.url(granted), NAMES[side])
    for statement in (*_NEITHER, *_ALONE[side]):
        with pytest.raises(StorageUnavailable, match="does not let this role") as refused, database.write() as tried:
            tried.execute(text(statement))
        assert "embedmill migrate" in str(refused.value.remedy), statement
    database.close()


def test_a_role_that_is_not_there_is_named(postgres_server: PostgresServer, granted: str) -> None:
    owner = as_role(postgres_server.url(granted), "embedmill_owner")
    with pytest.raises(InvalidOption, match="no role nobody_here"):
        grant(owner, {Side.API: "nobody_here"})
    owner.close()


def test_on_sqlite_there_are_no_roles(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'some.sqlite3'}")
    with pytest.raises(InvalidOption, match="SQLite has no roles"):
        grant(database, NAMES)
    database.close()
