"""Which encodings go through the encoder together: within the token budget, with little padding or none."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from math import gcd, prod

import numpy as np
from numpy.typing import NDArray

#: What a batch costs besides its tokens, in tokens: so many parts of the budget. Batches that cost nothing would hold
#: one length each; dear ones would be filled up with padding.
BATCH_COST_DIVISOR = 25


#: The size of a stepped batch is a multiple of so many tokens.
STEP = 32

#: Places where a padded batch may start: of more encodings, as a GPU's window has, neighbours are kept together, or the
#: plan of 40,000 would take a quarter of a second. In steps a batch is never so large that this would matter.
MOST_PLACES = 4096


class Packing(Enum):
    """How the encodings of a batch lie in it."""

    PADDED = "each filled up to the longest"
    STEPPED = "each filled up to the longest, and the batch to one of a few sizes"
    SORTED = "end to end; faster where neighbours are equally long"
    FREE = "end to end, in any order"


def plan(lengths: NDArray[np.integer], budget: int, packing: Packing = Packing.PADDED) -> list[NDArray[np.int64]]:
    """Divide encodings into batches: padded ones into those that cost least, others into full ones.

    Args:
        lengths: Shape (encodings,): tokens of each, at least 1.
        budget: Most tokens of a batch, padding included; an encoding longer than that is a batch of its own.
        packing: How they will lie in their batches.

    Returns:
        For each batch, which encodings it holds: the longest first, or in their own order where that is free.
    """
    order = np.arange(len(lengths)) if packing is Packing.FREE else np.argsort(-lengths.astype(np.int64), kind="stable")
    ordered = lengths[order].astype(np.int64)
    if packing in (Packing.PADDED, Packing.STEPPED):
        ends: Sequence[int] | NDArray[np.int64] = _cheapest_ends(ordered, budget, packing is Packing.STEPPED)
    else:
        ends = _full_ends(ordered, budget)
    batches = []
    start = 0
    while start < len(order):
        batches.append(order[start : ends[start]])
        start = int(ends[start])
    return batches


def _full_ends(lengths: NDArray[np.int64], budget: int) -> NDArray[np.int64]:
    """Return for each place where the batch that starts there ends, so that it is as full as the budget allows."""
    filled = np.cumsum(lengths)
    ends = np.searchsorted(filled, filled - lengths + budget, side="right")
    return np.maximum(ends, np.arange(1, len(lengths) + 1))


def stepped_shape(texts: int, tokens: int, longest: int) -> tuple[int, int]:
    """Return the smallest shape that holds a batch and whose product is a multiple of `STEP`.

    Args:
        texts: How many there are.
        tokens: Tokens of the longest.
        longest: Most tokens that a text may be filled up to.
    """
    widths = range(tokens, max(tokens, min(tokens + STEP - 1, longest)) + 1)
    shapes = ((_next_multiple(texts, STEP // gcd(width, STEP)), width) for width in widths)
    return min(shapes, key=prod)


def _next_multiple(count: int, of: int) -> int:
    return -(-count // of) * of


@lru_cache(4096)
def _stepped_sizes(tokens: int, most: int) -> NDArray[np.int64]:
    """Return the sizes of stepped batches of 1 to `most` texts."""
    widths = np.arange(tokens, tokens + STEP)[:, None]
    of = STEP // np.gcd(widths, STEP)
    sizes: NDArray[np.int64] = (-(-np.arange(1, most + 1) // of) * of * widths).min(0)
    return sizes


def _cheapest_ends(descending: NDArray[np.int64], budget: int, stepped: bool) -> list[int]:
    """Return for each place where the batch that starts there ends, so that it and all that follow cost least.

    Worked out from the end: the best rest after every possible end is known when a start is looked at.
    """
    grain = 1 if stepped else _grain(len(descending), int(descending.max(initial=1)), budget)
    firsts = descending[::grain]
    count = len(firsts)
    ends = [len(descending)] * len(descending)
    costs = np.zeros(count + 1, np.int64)
    steps = np.arange(1, count + 1)
    for start in range(count - 1, -1, -1):
        longest = max(1, int(firsts[start])) * grain
        fitting = max(1, budget // longest)
        most = min(count - start, fitting)
        sizes = _stepped_sizes(longest, fitting)[:most] if stepped else longest * steps[:most]
        totals = sizes + costs[start + 1 : start + 1 + most]
        best = int(totals.argmin())
        costs[start] = totals[best] + budget // BATCH_COST_DIVISOR
        ends[start * grain] = min((start + 1 + best) * grain, len(descending))
    return ends


def _grain(count: int, longest: int, budget: int) -> int:
    """Return how many neighbours are kept together: few places are left then, and batches nearly as full as before."""
    return max(1, min(-(-count // MOST_PLACES), budget // (16 * longest)))


def padding_share(lengths: NDArray[np.integer], batches: Sequence[NDArray[np.int64]]) -> float:
    """Return which share of all tokens in the batches is padding, 0..1.

    Args:
        lengths: Shape (encodings,): tokens of each.
        batches: For each batch, which encodings it holds.
    """
    padded = sum(int(lengths[batch].max()) * len(batch) for batch in batches)
    real = sum(int(lengths[batch].sum()) for batch in batches)
    return 1 - real / padded if padded else 0.0
