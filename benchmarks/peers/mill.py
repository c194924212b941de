"""Embedmill's own layers, each without those around it: tokenizing; the engine; the engine and storage."""

from __future__ import annotations

import queue
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from producer.records import Record
from producer.submission import Submission
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.contract.options import JobOptions
from storage.contract.settings import Settings
from storage.dispatch import dispatch_next
from storage.stores import Stores
from worker.embedding import Embedding
from worker.engine.checkpoint import resolve
from worker.engine.loading import load_engine
from worker.engine.tokenizing import Tokenizer
from worker.reserve import TASK_THREADS

#: Longest a job may take, in seconds.
_TIMEOUT = 600.0


class Program:
    """One engine, warm, and the stores over a SQLite file of its own.

    Args:
        folder: The model's folder.
        dtype: What it computes in.
        backend: What computes it; None: as a worker chooses.
    """

    def __init__(self, folder: str, dtype: str = "auto", backend: str | None = None) -> None:
        checkpoint = resolve(folder)
        self._tokenizer = Tokenizer(checkpoint)
        self._engine, self._setup = load_engine(checkpoint, "cpu", dtype, backend=backend)
        self._engine.warm()
        self._card = self._engine.card
        self._folder = tempfile.TemporaryDirectory(prefix="embedmill-bench-")
        self._stores = Stores.open(Settings(data_dir=Path(self._folder.name), model=folder))
        self._worker_id = new_id()
        self._stores.workers.register(self._card, self._worker_id, "localhost", 0, "cpu")
        self._pointers: queue.SimpleQueue[Pointer] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._embedding = Embedding(
            self._stores, self._engine, self._worker_id, self._committed, self._send_next, self._ended.set
        )
        for _ in range(TASK_THREADS):
            threading.Thread(target=self._work, daemon=True).start()

    @property
    def description(self) -> dict[str, Any]:
        """What results say of it."""
        return {"precision": self._card.precision, "setup": self._setup}

    def tokenize(self, texts: list[str]) -> int:
        """Tokenize texts as a task does; return how many tokens are read."""
        return int(self._tokenizer.encode(texts, self._card.max_length).tokens.sum())

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Return the vectors, shape (texts, width): tokenizing and the engine, nothing else."""
        return self._engine.embed(texts, JobOptions()).vectors

    def store(self, texts: list[str]) -> None:
        """Submit texts, then claim, embed and commit chunk after chunk; the queue is one in memory."""
        self._ended.clear()
        # Chunks are only sent to those who were seen a moment ago, and this process was stopped meanwhile.
        self._stores.leases.heartbeat(self._worker_id, [])
        submission = Submission(
            self._stores, model=self._card.name, revision=None, card=self._card, options=JobOptions()
        )
        submission.run(Record(text) for text in texts)
        self._send_next()
        if not self._ended.wait(_TIMEOUT):
            raise RuntimeError("the job did not end")

    def stored(self) -> NDArray[np.float32]:
        """Return the vectors of the newest job."""
        (job_id,) = self._stores.jobs.list_ids(1, None)
        pages = self._stores.results.pages(job_id)
        return np.concatenate([matrix for page in pages if (matrix := page.matrix()) is not None])

    def _work(self) -> None:
        while True:
            self._embedding.run(self._pointers.get())

    def _send_next(self) -> None:
        dispatch_next(self._stores.chunks, self._send, self._card.name, self._card.id)

    def _send(self, pointers: Sequence[Pointer], name: str) -> None:
        for pointer in pointers:
            self._pointers.put(pointer)

    def _committed(self, finished: list[str]) -> None:
        if finished:
            self._ended.set()
