"""How the work is divided on a CPU: tokens of a batch, batches computed at a time, threads that compute one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from worker.engine.records import Batching
from worker.engine.samples import many_texts
from worker.engine.trials import Trials

#: Another division of the work than the usual one must be so many times as fast.
LEAST_BATCHING_GAIN = 1.05

#: Budgets that are tried beside the usual one, in tokens.
_BUDGETS = (2048, 512)

#: Tokens of an average text that speed is measured on, and how many of them warm an engine up.
_SAMPLE_TOKENS, _WARM_UP = 50, 20

#: Every division of the work is measured so often; one that is so much slower than another only once.
_BATCHING_ROUNDS, _HOPELESS = 3, 1.1


def choose_batching(trials: Trials, dtype: str, usual: Batching) -> Batching:
    """Return how to divide the work.

    Args:
        trials: Where the engine is tried.
        dtype: What is computed in.
        usual: How it is divided where nothing else is clearly faster.
    """
    available = trials.place.cores
    texts = many_texts(2 * available * max(_BUDGETS) // _SAMPLE_TOKENS)
    ways = [(1, available)] * (available > 1) + [(available // 2, 2)] * (available > 3)
    shared = [Batching(token_budget=usual.token_budget, cores=cores, threads=threads) for cores, threads in ways]
    best = _fastest(trials, dtype, usual, shared, texts)
    budgets = [best.model_copy(update={"token_budget": tokens}) for tokens in _BUDGETS]
    return _fastest(trials, dtype, best, budgets, texts, trials.place.busy)


def _fastest(
    trials: Trials,
    dtype: str,
    first: Batching,
    others: list[Batching],
    texts: list[str],
    clock: Callable[[], float] = time.monotonic,
) -> Batching:
    """Return the first way, or another that is clearly faster."""
    if not others or not trials.allows(trials.round):
        return first
    expected = trials.seconds(dtype, texts[:_WARM_UP], _ways(first), time.monotonic) / _WARM_UP * len(texts)
    spent: dict[Batching, list[float]] = {way: [] for way in (first, *others)}
    for _ in range(_BATCHING_ROUNDS):
        for way in spent:
            if not trials.allows(expected):
                return first
            start = time.monotonic()
            spent[way].append(trials.seconds(dtype, texts, _ways(way), clock))
            expected = time.monotonic() - start
        quickest = min(map(min, spent.values()))
        spent = {way: of for way, of in spent.items() if way == first or min(of) <= _HOPELESS * quickest}
        if len(spent) == 1:
            return first
    best = min(spent, key=lambda way: min(spent[way]))
    return best if min(spent[first]) >= LEAST_BATCHING_GAIN * min(spent[best]) else first


def _ways(batching: Batching) -> dict[str, Any]:
    return batching.model_dump()
