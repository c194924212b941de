"""Many who submit with one idempotency key in the same moment: threads of one process, and processes."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from embedmill import Client
from storage.contract.errors import IdempotencyConflict
from storage.contract.settings import Settings

#: What a rival is told whose texts are others than those of the one that was first.
CONFLICT = "conflict"

#: Longest wait for the others, in seconds.
_PATIENCE = 60.0

_client: Client
_gate: Any


def client_of(database: str, folder: str, model: str) -> Client:
    """Return a client of a mill without Redis: submitting needs none."""
    redis = "redis://127.0.0.1:1/0"
    return Client(settings=Settings.load(database_url=database, redis_url=redis, model=model, data_dir=folder))


def submit_together(gate: Any, client: Client, key: str, texts: Sequence[str]) -> str:
    """Wait until all are there, submit, and return the job's id or `CONFLICT`."""
    gate.wait(_PATIENCE)
    try:
        return client.submit(texts, idempotency_key=key).id
    except IdempotencyConflict:
        return CONFLICT


class Threads:
    """Rivals in this process.

    Args:
        client: The one client that they share.
        count: How many.
    """

    def __init__(self, client: Client, count: int) -> None:
        self.count = count
        self._client = client
        self._gate = threading.Barrier(count)
        self._pool = ThreadPoolExecutor(count)

    def round(self, key: str, texts: Sequence[Sequence[str]]) -> list[str]:
        """Have rival i submit texts i, all at once; return what each was told."""
        assert len(texts) == self.count
        told = [self._pool.submit(submit_together, self._gate, self._client, key, own) for own in texts]
        return [one.result() for one in told]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


@contextmanager
def rival_processes(count: int, database: str, folder: str, model: str) -> Iterator[ProcessPoolExecutor]:
    """Start processes, each with a client of its own; each takes one `submit_in_process` a round."""
    spawn = multiprocessing.get_context("spawn")
    gate = spawn.Barrier(count)
    with ProcessPoolExecutor(count, spawn, _prepare, (gate, database, folder, model)) as pool:
        yield pool


def submit_in_process(key: str, texts: Sequence[str]) -> str:
    """Do as `submit_together`, in a process that `rival_processes` has started."""
    return submit_together(_gate, _client, key, texts)


def _prepare(gate: Any, database: str, folder: str, model: str) -> None:
    global _gate, _client
    _gate, _client = gate, client_of(database, folder, model)
