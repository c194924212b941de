"""How often each defence was needed and how much was done, as this process has counted.

`storage/counted.py` adds it up in the database.
"""

from __future__ import annotations

import threading
from collections import Counter

#: Every counter and what it says, as `/metrics` shows it.
MEANINGS = {
    "texts_embedded": "texts whose vector was committed",
    "texts_failed": "texts that ended with an error in a worker",
    "tokens_embedded": "tokens read of committed texts",
    "leases_expired": "chunks taken back from workers that were silent for too long",
    "leases_released": "chunks given back at once because their process had died",
    "messages_resent": "chunks sent again because their message was lost",
    "messages_dropped": "messages whose chunk was not to be had: doubled, late, cancelled or forged",
    "messages_unreadable": "messages that could not be read",
    "commits_late": "results refused because their lease had gone to another, or their job had ended",
    "commits_resolved": "commits whose answer was lost and that were found done",
    "conflicts_retried": "transactions run again because another one stood in their way",
    "chunks_split": "chunks cut in half to find a text that ends processes",
    "texts_poisoned": "texts given up because they ended process after process",
    "chunks_given_up": "chunks whose items got an error after too many unexpected ones",
    "batches_bisected": "batches cut in half to find a text that cannot be embedded",
    "budgets_halved": "token budgets halved because the device was out of memory",
    "vectors_refused": "vectors tried again alone because they were NaN, infinite, zero or of a wrong width",
    "workers_died": "worker processes that ended by a crash, a signal or an error, of which no server was the cause",
    "workers_silenced": "worker processes killed because they showed no sign of life",
    "workers_stalled": "worker processes that ended themselves because the engine made no progress",
    "workers_starved": "worker processes that ended themselves because no message reached them",
    "workers_outgrown": "worker processes that ended themselves because their memory had grown too far",
    "slots_quarantined": "slots taken out after repeated deaths while another served the model",
    "jobs_expired": "jobs that ended because their time was over",
    "jobs_purged": "jobs removed with their texts and vectors",
    "texts_purged": "jobs whose texts were removed, their vectors kept",
    "webhooks_delivered": "ends of jobs that a webhook's receiver has taken",
    "webhooks_failed": "tries to tell the end of a job to a webhook that failed",
    "webhooks_given_up": "ends of jobs that were told to a webhook in vain, for the last time",
    "openai_batches_completed": "OpenAI's batches that were done",
    "openai_batches_failed": "OpenAI's batches that could not be done",
    "openai_batches_expired": "OpenAI's batches whose time was over before all of their lines were done",
    "openai_batches_cancelled": "OpenAI's batches that were cancelled",
    "sweeps_failed": "duties of the reconciler that an error cut short",
    "invariants_broken": "rows found in a state that must not be",
}

_counts: Counter[str] = Counter()
_lock = threading.Lock()


def count(name: str, times: int = 1) -> None:
    """Count that a defence was needed, or something done.

    Args:
        name: One of `MEANINGS`.
        times: How often.
    """
    if name not in MEANINGS:
        raise KeyError(name)
    if times:
        with _lock:
            _counts[name] += times


def take() -> Counter[str]:
    """Return what was counted since the last time."""
    with _lock:
        counted = Counter(_counts)
        _counts.clear()
    return counted


def put_back(counted: Counter[str]) -> None:
    """Count again what was taken and could not be added up."""
    with _lock:
        _counts.update(counted)
