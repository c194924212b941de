"""A process that stands still while it works at a batch, loses the right to it, and goes on all the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy import select, update

from producer.api.openai.batchwork import BatchWork
from producer.api.settings import ApiSettings
from producer.client import Client
from storage.batchrecords import Group
from storage.filetables import BatchRow, FileRow
from tests.producer.test_batchwork import OTHER, check, client, embed, settings, started

__all__ = ["client", "settings"]

#: Longest wait for another thread, in seconds; a sound program needs none of it.
PATIENCE = 60.0


class Before:
    """A store; something happens just before the first call of one of its methods."""

    def __init__(self, store: Any, name: str, act: Callable[[], None]) -> None:
        self._store = store
        self._name = name
        self._act: Callable[[], None] | None = act

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def called(*args: Any, **given: Any) -> Any:
            if name == self._name and self._act is not None:
                act, self._act = self._act, None
                act()
            return method(*args, **given)

        return called


@contextmanager
def standing_still(
    settings: ApiSettings, store: str, method: str, **looks: Callable[[], None]
) -> Iterator[Callable[[], None]]:
    """Let a process work that stands still before one of its dealings with a store, until its right has run out.

    Yields what lets it go on, to the end of its look. `looks` come before the first of other dealings with that store.
    """
    stopped, going_on = threading.Event(), threading.Event()

    def stand() -> None:
        stopped.set()
        assert going_on.wait(PATIENCE)

    with Client(settings=settings) as slow:
        watched: Any = getattr(slow.stores, store)
        for name, act in {method: stand, **looks}.items():
            watched = Before(watched, name, act)
        slow._stores = replace(slow.stores, **{store: watched})
        thread = threading.Thread(target=BatchWork(slow, settings).look)
        thread.start()
        try:
            assert stopped.wait(PATIENCE)
            with slow.stores.database.write() as connection:
                connection.execute(update(BatchRow).values(lease_expires=0))

            def go_on() -> None:
                going_on.set()
                thread.join(PATIENCE)

            yield go_on
        finally:
            going_on.set()
            thread.join(PATIENCE)


def test_whoever_ends_a_batch_too_late_takes_no_job_from_under_the_one_who_reads_it(
    client: Client, settings: ApiSettings
) -> None:
    # Given a batch whose jobs are done, and a process that stands still before its last step
    stores = client.stores
    batch = started(stores)
    BatchWork(client, settings).look()
    embed(stores)
    with standing_still(settings, "batches", "finish") as go_on:
        # When it goes on while another one has begun to read the vectors
        client._stores = replace(stores, results=Before(stores.results, "pages", go_on))  # type: ignore[arg-type]
        BatchWork(client, settings).look()
    # Then the other has found all of them, and the files of the first are gone
    check(stores, batch)
    with stores.database.read() as connection:
        written = select(FileRow.id).where(FileRow.purpose == "batch_output", FileRow.state != "ready")
        assert connection.execute(written).first() is None


def test_whoever_has_planned_too_late_takes_no_job_from_a_batch(client: Client, settings: ApiSettings) -> None:
    # Given a process that stands still before it notes what the lines of a batch become
    stores, work = client.stores, BatchWork(client, settings)
    batch = started(stores)
    found: list[list[Group]] = []

    def look() -> None:
        found.append(stores.batches.groups(batch.id))

    with standing_still(settings, "batches", "keep_lines", set_job=look) as go_on:
        # When another one has made the jobs, and it goes on
        work.look()
        made = stores.batches.groups(batch.id)
        embed(stores, [OTHER])
        go_on()
        # Then the batch knew its jobs all the time, and waits for the one that is not done
        assert all(groups == made for groups in found), found
        assert stores.batches.groups(batch.id) == made and all(group.job_id for group in made)
        work.look()
        assert stores.batches.get(batch.id).state == "in_progress"
    embed(stores)
    work.look()
    check(stores, batch)


def test_whoever_makes_a_job_of_a_batch_that_has_ended_leaves_none(client: Client, settings: ApiSettings) -> None:
    # Given a process that stands still before the first job is accepted
    stores, work = client.stores, BatchWork(client, settings)
    batch = started(stores)
    with standing_still(settings, "jobs", "accept") as go_on:
        # When others bring the batch to its end, and it goes on
        for _ in range(2):
            work.look()
            embed(stores)
        work.look()
        check(stores, batch)
        go_on()
    # Then no job is left that nobody would see to
    check(stores, batch)
