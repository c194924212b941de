"""What a job's row says from the moment at which it has ended, however it ended."""

from __future__ import annotations

from typing import Any

from storage.contract.states import JobState
from storage.database import now_ms
from storage.tables import JobRow


def ended(state: JobState, **more: Any) -> dict[str, Any]:
    """Return the columns that a job's end changes: from then on runs the time for which it, and its texts, are kept.

    Args:
        state: How it ended.
        **more: Further columns.
    """
    return {
        "state": state,
        "finished_at": now_ms(),
        "kept_until": now_ms() + JobRow.keep_for,
        "texts_until": now_ms() + JobRow.keep_texts_for,
        **more,
    }


def begun_again() -> dict[str, Any]:
    """Return the columns that change back when an ended job is sent round again."""
    return {
        "state": JobState.QUEUED,
        "finished_at": None,
        "expires_at": None,
        "kept_until": None,
        "texts_until": None,
        "generation": JobRow.generation + 1,
    }
