"""What the doctor says of a PostgreSQL's connections and of its disks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import make_url

from storage.checkups import onpostgres, postgresdisk
from storage.checkups.check import Verdict
from storage.contract.ids import new_id
from storage.database import Database
from storage.migrations import migrate
from storage.stores import Stores
from tests.faults.smalldisk import small_disk
from tests.servers import PostgresServer, running_postgres
from tests.stack import free_port
from tests.storage.builders import CARD, OTHER


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A PostgreSQL on a port, of its own."""
    with running_postgres(free_port()) as server:
        yield server


def test_too_few_connections_are_told_of(own_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Database(own_server.url("postgres"))) as database:
        assert onpostgres.CHECKS["connections"](database).verdict is Verdict.OK
        monkeypatch.setattr(onpostgres, "_EACH", 100)
        may = onpostgres.CHECKS["connections"](database)
        monkeypatch.setattr(onpostgres, "_NEARLY_FULL", 0.0)
        are = onpostgres.CHECKS["connections"](database)
    for told in (may, are):
        assert told.verdict is Verdict.WARNING and "Raise max_connections" in str(told.remedy)
    assert "may open up to 100" in may.found


def test_connections_are_counted_as_the_documentation_adds_them_up(own_server: PostgresServer) -> None:
    # Given two services, and nine machines of one slot; and a service and a machine that are gone
    with closing(Database(own_server.url(own_server.create()))) as database:
        migrate(database)
        stores = Stores.on(database)
        ids = [new_id() for _ in range(3)]
        for number, service in enumerate(ids):
            stores.services.note(service, f"api-{number}", 1)
        for number in range(10):
            stores.workers.register(CARD, new_id(), f"mill-{number}", 1, "cpu")
        with database.write() as connection:
            connection.exec_driver_sql("UPDATE services SET last_seen = 0 WHERE host = 'api-2'")
            connection.exec_driver_sql("UPDATE workers SET last_seen = 0 WHERE host = 'mill-9'")
        # When the doctor looks, then it comes to what docs/operations.md does, with a reconciler by itself
        told = onpostgres.CHECKS["connections"](database)
        assert told.verdict is Verdict.WARNING and "may open up to 480." in told.found
        # And two slots of one machine have one supervisor and one reconciler, two models have two
        stores.workers.register(CARD, new_id(), "mill-0", 2, "cuda:1")
        assert "may open up to 496." in onpostgres.CHECKS["connections"](database).found
        stores.workers.register(OTHER, new_id(), "mill-0", 3, "cuda:2")
        assert "may open up to 544." in onpostgres.CHECKS["connections"](database).found


def test_the_disks_of_a_server_on_this_host_are_looked_at() -> None:
    # Given a server whose tables lie on a small disk of their own
    with small_disk(64) as disk, running_postgres() as server:
        name = server.create()
        server.stop()
        disk.take(server.folder / "data" / "base")
        server.start()
        with closing(Database(server.url(name))) as database:
            look = onpostgres.CHECKS["room"]
            # When asked, then it tells of the fullest
            small = look(database)
            assert small.verdict is Verdict.WRONG and "data/base" in small.found and "Make room" in str(small.remedy)


def test_of_a_server_elsewhere_the_doctor_says_where_to_look(
    own_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = onpostgres.CHECKS["room"]
    with closing(Database(own_server.url("postgres"))) as database:
        told = look(database)
        assert told.verdict is Verdict.OK and str(own_server.folder) in told.found
        # And where its process is none of this host's, as behind a tunnel
        monkeypatch.setattr(postgresdisk, "_runs_here", lambda _: False)
        told = look(database)
        assert told.verdict is Verdict.NOT_CHECKED and "df -h" in str(told.remedy)


def test_a_role_that_is_not_told_where_the_data_lie_is_told_what_to_do(
    own_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a role like those that services have, of a user who may not look at the server's processes
    monkeypatch.setattr(postgresdisk, "_folder_of", lambda _: None)
    own_server.execute("CREATE ROLE miller LOGIN")
    url = make_url(own_server.url("postgres")).set(username="miller").render_as_string(hide_password=False)
    with closing(Database(url)) as database:
        told = onpostgres.CHECKS["room"](database)
        assert told.verdict is Verdict.NOT_CHECKED and "pg_read_all_settings" in str(told.remedy)
        own_server.execute("GRANT pg_read_all_settings TO miller")
        assert onpostgres.CHECKS["room"](database).verdict is Verdict.OK
