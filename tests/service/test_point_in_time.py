"""A PostgreSQL is brought back to a moment by its log, with the commands of docs/data.md as they stand there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest

from storage.database import Database
from storage.migrations import migrate
from storage.stores import Stores
from storage.tables import Row
from tests.repeating import repeating
from tests.servers import PostgresServer, running_postgres
from tests.service.typedpage import Block, blocks, typed
from tests.storage.builders import claim, finish, result, serve, submit
from tests.storage.forms import full

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"

#: What the page calls the folder of the archive and the base backup, and the moment.
_FOLDER, _MOMENT = "/srv/mill", "2026-11-28 18:30:00+00"

#: The last command, of a user who may run the program, which the server's own one may not be.
_FENCE = "embedmill fence\n"


@dataclass(frozen=True, slots=True)
class OwnServer:
    """A PostgreSQL whose operator is whoever types.

    Args:
        server: What made its cluster; it does not run by itself.
        folder: Where its archive and its base backup go.
    """

    server: PostgresServer
    folder: Path

    def type(self, *commands: Block, moment: str = "") -> None:
        """Type commands of the page in, as the server's own user."""
        here = [
            replace(block, code=block.code.replace(_FOLDER, str(self.folder)).replace(_MOMENT, moment))
            for block in commands
        ]
        data = self.server.folder / "data"
        variables = {"PGDATA": str(data), "PGHOST": str(self.server.folder), "PGUSER": "postgres"}
        variables |= {"PATH": f"{self.server.binaries}:{os.environ['PATH']}", "HOME": str(self.folder)}
        typed(here, "", self.folder, self.folder, 120, variables, **self.server.identity)


@contextmanager
def own_server() -> Iterator[OwnServer]:
    """Make a cluster that pg_ctl starts and stops."""
    with running_postgres() as server:
        server.create()
        server.stop()
        data, folder = server.folder / "data", server.folder / "mill"
        folder.mkdir()
        if user := server.identity.get("user"):
            os.chown(folder, user, server.identity["group"])
        settings = f"listen_addresses = ''\nunix_socket_directories = '{server.folder}'\n"
        with (data / "postgresql.conf").open("a") as file:
            file.write(settings)
        own = OwnServer(server, folder)
        control = 'pg_ctl --wait --log="$PGDATA.log" '
        own.type(Block(0, "sh", f"{control} start\n", True))
        try:
            yield own
        finally:
            own.type(Block(0, "sh", f"{control} --mode=immediate stop\n", True))


def state_of(url: str) -> dict[str, str]:
    """Return a digest of all rows of each table there is."""
    found = {}
    with psycopg.connect(url) as connection:
        for table in Row.metadata.sorted_tables:
            rows = connection.execute(f"SELECT t::text FROM {table.name} t ORDER BY 1").fetchall()
            found[table.name] = hashlib.sha256("\n".join(row[0] for row in rows).encode()).hexdigest()
    return found


@full
@pytest.mark.timeout(600)
def test_a_server_is_brought_back_to_a_moment_by_the_commands_of_the_page(tmp_path: Path) -> None:
    # Given the page's three steps: once, every night, and back
    archiving, nightly, back = (block for block in blocks(PAGE) if block.language == "sh" and not block.run)
    with own_server() as own:
        url = own.server.url("mill")
        with psycopg.connect(own.server.url("postgres"), autocommit=True) as admin:
            admin.execute("CREATE DATABASE mill")
        with closing(Database(url)) as database:
            migrate(database)
            stores = Stores.on(database)
            worker = serve(stores)
            finish(stores, submit(stores, 2), 2, worker)
        own.type(archiving)
        with closing(Database(url)) as database:
            stores = Stores.on(database)
            old = submit(stores, 3)
            with repeating(lambda: finish(stores, submit(stores, 2), 2, worker)) as raised:
                own.type(nightly)
            assert raised == []
            # And after the base backup more work, some of it open, up to a moment
            finish(stores, submit(stores, 2), 2, worker)
            open_job = submit(stores, 2)
            claim(stores, open_job, 0, worker)
            then = state_of(url)
            with psycopg.connect(url) as connection:
                (moment,) = connection.execute("SELECT clock_timestamp()::text").fetchone() or ("",)
            # When somebody cancels and deletes what was not to go, and others still submit
            for job_id in (old, open_job):
                stores.jobs.cancel(job_id)
                stores.purges.delete(job_id)
            newer = submit(stores, 2)
        # And the operator goes back to the moment
        commands, found, rest = back.code.partition(_FENCE)
        assert found and not rest
        own.type(replace(back, code=commands), moment=moment)
        # Then every row is what it was, to the byte
        assert state_of(url) == then
        # And fenced, what was open is done to its end, and of what came later nothing is known
        typed([Block(0, "sh", _FENCE, True)], "", tmp_path, tmp_path, 60, {"EMBEDMILL_DATABASE_URL": url})
        with closing(Database(url)) as database:
            stores = Stores.on(database)
            assert newer not in stores.jobs.list_ids(1_000)
            worker = serve(stores)
            for job_id, chunks in ((old, 3), (open_job, 2)):
                for number in range(chunks):
                    for held in claim(stores, job_id, number, worker):
                        stores.leases.commit([(held, result())])
                assert stores.statuses.get(job_id).state == "completed"
            assert not stores.invariants.check().broken
