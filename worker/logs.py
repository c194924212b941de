"""Log lines for people, on stderr: time, level, process, sentence. Ids and counts only, never a text."""

from __future__ import annotations

import logging
import os


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
    # Celery tells at INFO of every message it takes and finishes.
    for chatty in ("celery", "kombu", "httpx", "alembic", "sentence_transformers", "transformers"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))
