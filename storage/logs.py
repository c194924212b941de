"""Log lines for people, on stderr: time, level, process, sentence. Ids and counts only, never a text."""

from __future__ import annotations

import logging
import os

#: These tell more at INFO than anybody wants to know, such as Celery of every message it takes and finishes.
_CHATTY = ("celery", "kombu", "httpx", "alembic", "sentence_transformers", "transformers", "uvicorn", "uvicorn.error")


def configure(level: str) -> None:
    """Send all log lines to stderr.

    Args:
        level: `DEBUG`, `INFO`, `WARNING` or `ERROR`.
    """
    logging.basicConfig(
        level=level,
        format=f"%(asctime)s %(levelname)-7s [{os.getpid()}] %(message)s",
        datefmt="%H:%M:%S",
        force=True,
    )
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))
