"""The one Celery task."""

from __future__ import annotations

from typing import Any

from storage.contract.broker import TASK_NAME
from storage.contract.messages import Pointer
from worker.app import app
from worker.embedding import Embedding

#: Set by the process that consumes, once its engine is warm; a task never runs before.
embedding: Embedding


@app.task(name=TASK_NAME)
def embed_chunk(**message: Any) -> None:
    """Embed the chunk a message points to; a message of an unknown version is dropped, its chunk comes again."""
    pointer = Pointer.from_message(message)
    if pointer is not None:
        embedding.run(pointer)
