"""A worker's inside without its outside: stores, an engine that can be told to misbehave, and one message's work."""

from __future__ import annotations

import numpy as np

from storage.chunks import NewChunk
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.contract.options import JobOptions
from storage.newjobs import NewJob
from storage.outcomes import ItemError
from storage.stores import Stores
from tests.worker.engines import CARD, HashEngine
from worker.embedding import Embedding


class Mill:
    """A worker's inside: stores, an engine, and what it told the outside."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.engine = HashEngine()
        self.finished: list[str] = []
        self.sent = 0
        self.broken = 0
        self.id = new_id()
        stores.workers.register(CARD, self.id, "here", 1, "cpu")
        outside = (self.finished.extend, self._send_next, self._break)
        self.embedding = Embedding(stores, self.engine, self.id, *outside)

    def _send_next(self) -> None:
        self.sent += 1

    def _break(self) -> None:
        self.broken += 1

    def submit(self, *chunks: list[str], invalid: dict[int, ItemError] | None = None, **options: object) -> str:
        job_id = new_id()
        job_options = JobOptions(**options).to_dict()  # type: ignore[arg-type]
        self.stores.jobs.create(NewJob(job_id, CARD.name, None, CARD.id, job_options))
        first = 0
        for number, texts in enumerate(chunks):
            bad = invalid or {}
            encoded = [b"" if i in bad else text.encode() for i, text in enumerate(texts)]
            self.stores.chunks.append(job_id, [NewChunk(number, first, encoded, 10, None, bad)])
            first += len(texts)
        self.stores.jobs.seal(job_id, first, len(chunks))
        return job_id

    def run(self, job_id: str, chunk: int = 0) -> None:
        self.embedding.run(Pointer(job_id, chunk))

    def matrix(self, job_id: str) -> np.ndarray:
        pages = [page.matrix() for page in self.stores.results.pages(job_id)]
        return np.concatenate([page for page in pages if page is not None])
