"""Batches: every encoding in exactly one, none beyond the budget, little padding."""

from __future__ import annotations

import numpy as np
import pytest

from worker.engine import batching
from worker.engine.batching import STEP, Packing, padding_share, plan, stepped_shape


def lengths_of(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(3, 300, count)


@pytest.mark.parametrize("budget", [1, 300, 1024, 10**9])
def test_every_encoding_is_in_exactly_one_batch(budget: int) -> None:
    lengths = lengths_of(1, 500)
    batches = plan(lengths, budget)
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))


def test_no_batch_is_longer_than_the_budget_with_its_padding() -> None:
    lengths = lengths_of(2, 500)
    for batch in plan(lengths, 1024):
        assert lengths[batch].max() * len(batch) <= 1024


def test_an_encoding_longer_than_the_budget_goes_alone() -> None:
    batches = plan(np.array([10, 5000, 10]), 1024)
    assert [batch.tolist() for batch in batches] == [[1], [0, 2]]


def test_a_batch_is_as_full_as_the_budget_allows() -> None:
    batches = plan(np.full(10, 100), 450)
    assert sorted(len(batch) for batch in batches) == [2, 4, 4]


def test_nothing_makes_no_batch() -> None:
    assert plan(np.zeros(0, np.int64), 1024) == []
    assert padding_share(np.zeros(0, np.int64), []) == 0.0


def test_sorting_leaves_little_padding_where_arrival_order_leaves_much() -> None:
    lengths = lengths_of(3, 500)
    unsorted = [np.arange(start, min(start + 8, 500)) for start in range(0, 500, 8)]
    assert padding_share(lengths, unsorted) > 0.3
    assert padding_share(lengths, plan(lengths, 1024)) < 0.05


def test_a_batch_ends_early_where_a_great_step_in_length_would_be_padded() -> None:
    batches = plan(np.array([200, 200, 10, 10, 10]), 1024)
    assert [batch.tolist() for batch in batches] == [[0, 1], [2, 3, 4]]


def test_a_small_step_in_length_is_padded_rather_than_paid_with_a_batch() -> None:
    assert len(plan(np.array([20, 19, 19, 18, 18]), 1024)) == 1


@pytest.mark.parametrize(("longest", "budget"), [(24, 32_768), (512, 32_768), (512, 1024)])
def test_a_plan_of_very_many_is_nearly_as_good_as_the_best(
    longest: int, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given more encodings than there may be places to start a batch at
    lengths = np.random.default_rng(6).integers(3, longest + 1, 20_000)
    batches = plan(lengths, budget)
    # Then each is in one batch, none is beyond the budget
    assert sorted(np.concatenate(batches).tolist()) == list(range(20_000))
    assert all(lengths[batch].max() * len(batch) <= budget for batch in batches)
    # And batches and padding are hardly more than of the best plan
    monkeypatch.setattr(batching, "MOST_PLACES", 20_000)
    best = plan(lengths, budget)
    assert len(batches) <= 1.05 * len(best)
    assert padding_share(lengths, batches) <= padding_share(lengths, best) + 0.01


def test_padding_share_counts_padded_tokens() -> None:
    assert padding_share(np.array([10, 5, 5]), [np.array([0, 1, 2])]) == pytest.approx(10 / 30)


@pytest.mark.parametrize("packing", [Packing.SORTED, Packing.FREE])
def test_packed_batches_are_as_full_of_real_tokens_as_the_budget_allows(packing: Packing) -> None:
    lengths = lengths_of(4, 500)
    batches = plan(lengths, 1024, packing)
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    sizes = [int(lengths[batch].sum()) for batch in batches]
    assert max(sizes) <= 1024
    # The first encoding of each batch did not fit into the one before
    firsts = [int(lengths[batch[0]]) for batch in batches[1:]]
    assert all(size + first > 1024 for size, first in zip(sizes, firsts, strict=False))


def test_packed_batches_keep_the_order_unless_equal_neighbours_are_faster() -> None:
    lengths = np.array([7, 300, 7, 9, 300, 7])
    assert [batch.tolist() for batch in plan(lengths, 400, Packing.FREE)] == [[0, 1, 2, 3], [4, 5]]
    assert [batch.tolist() for batch in plan(lengths, 400, Packing.SORTED)] == [[1], [4, 3, 0, 2, 5]]


@pytest.mark.parametrize("packing", [Packing.SORTED, Packing.FREE])
def test_an_encoding_longer_than_the_budget_is_a_packed_batch_of_its_own(packing: Packing) -> None:
    batches = plan(np.array([10, 5000, 10]), 1024, packing)
    assert [1] in [batch.tolist() for batch in batches] and sorted(np.concatenate(batches)) == [0, 1, 2]
    assert plan(np.zeros(0, np.int64), 1024, packing) == []


@pytest.mark.parametrize("longest", [40, 512])
def test_a_stepped_shape_holds_its_batch_and_is_no_longer_than_may_be(longest: int) -> None:
    generator = np.random.default_rng(4)
    for texts, tokens in zip(generator.integers(1, 90, 300), generator.integers(1, longest + 1, 300), strict=True):
        rows, width = stepped_shape(int(texts), int(tokens), longest)
        assert rows >= texts and tokens <= width <= longest
        assert rows * width % STEP == 0


def test_stepped_batches_come_in_far_fewer_sizes() -> None:
    # Given batches of many windows
    sizes: dict[Packing, set[int]] = {Packing.PADDED: set(), Packing.STEPPED: set()}
    for seed in range(30):
        lengths = lengths_of(seed, 200)
        for packing, found in sizes.items():
            for batch in plan(lengths, 2048, packing):
                texts, tokens = len(batch), int(lengths[batch].max())
                found.add(
                    int(np.prod(stepped_shape(texts, tokens, 512))) if packing is Packing.STEPPED else texts * tokens
                )
    # Then there are a few tens where there were hundreds
    assert len(sizes[Packing.STEPPED]) <= 2048 // STEP + 10 < len(sizes[Packing.PADDED]) / 3
