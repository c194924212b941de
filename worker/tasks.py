"""The one Celery task."""

from __future__ import annotations

from typing import Any

from storage import counters
from storage.contract.broker import TASK_NAME
from storage.contract.messages import Pointer
from worker.app import app
from worker.embedding import Embedding

_embedding: Embedding | None = None


def serve(embedding: Embedding) -> None:
    """Say who does the work of this process's messages; called once the engine is warm, before any is taken."""
    global _embedding
    _embedding = embedding


@app.task(name=TASK_NAME)
def embed_chunk(**message: Any) -> None:
    """Embed the chunk a message points to; a message of an unknown version is dropped, its chunk comes again."""
    pointer = Pointer.from_message(message)
    if pointer is None:
        counters.count("messages_dropped")
    elif _embedding is not None:
        _embedding.run(pointer)
