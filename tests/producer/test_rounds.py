"""Threads of the service that do something again and again, and go on whatever comes of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event, text

from producer.api import rounds
from producer.api.rounds import Rounds
from producer.api.waiting import Waiting
from storage.contract.errors import StorageUnavailable
from storage.database import Database
from storage.hints import Hints
from storage.stores import Stores
from tests.servers import PostgresServer
from tests.storage.builders import finish, serve, submit

#: Longest wait for another thread, in seconds; a sound program needs none of it.
PATIENCE = 60.0


def test_a_round_that_fails_is_followed_by_the_next_and_none_comes_after_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rounds, "_AFTER_FAILURE", 0.001)
    done: list[str] = []
    enough = threading.Event()

    def unavailable() -> None:
        raise StorageUnavailable("The database does not answer.")

    def unforeseen() -> None:
        raise ValueError("a text")

    turns: list[Callable[[], None]] = [unavailable, unforeseen, enough.set]

    def do() -> None:
        done.append("")
        if turns:
            turns.pop(0)()

    work = Rounds("milling", do, 0.0)
    work.start()
    assert enough.wait(PATIENCE)
    work.stop()
    # Then it was done a third time; what nobody foresaw is told, and what waits for the database is not
    assert [record.getMessage() for record in caplog.records] == ["milling: a round failed"]
    count = len(done)
    assert count >= 3 and work.stopping.is_set() and not [t for t in threading.enumerate() if t.name == "milling"]


def test_who_waits_is_woken_though_something_unforeseen_came_between(
    migrated_postgres: str, postgres_server: PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    postgres_server.empty(migrated_postgres)
    hints = Hints(f"unix://{tmp_path / 'nobody.sock'}")
    with closing(Database(postgres_server.url(migrated_postgres))) as database:
        stores = Stores.on(database)
        worker, job_id = serve(stores), submit(stores)
        waiting = Waiting(stores.jobs, hints)

        def rename(old: str, new: str) -> None:
            with database.write() as connection:
                connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

        async def scenario() -> bool:
            # Given one who waits, and a look that fails for a reason nobody foresaw
            looked = threading.Event()
            event.listen(database.engine, "after_cursor_execute", lambda *told: looked.set())
            waiter = asyncio.create_task(waiting.until_ended(job_id, PATIENCE))
            assert await asyncio.to_thread(looked.wait, PATIENCE)
            await asyncio.to_thread(rename, "jobs", "jobs_elsewhere")
            waiting.start()
            try:
                while "waiting: a round failed" not in caplog.text:
                    await asyncio.sleep(0.001)
            finally:
                await asyncio.to_thread(rename, "jobs_elsewhere", "jobs")
            # When the job ends, without a hint
            await asyncio.to_thread(finish, stores, job_id, 1, worker)
            # Then he is woken
            return await waiter

        try:
            assert asyncio.run(scenario())
        finally:
            waiting.stop()
            hints.close()
