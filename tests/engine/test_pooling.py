"""Pooling on states small enough to reckon by hand."""

from __future__ import annotations

import pytest
import torch

from storage.contract.models import ModelCard
from storage.contract.options import JobOptions
from worker.engine.pooling import Recipe, finish, pool

STATES = torch.tensor([[[1.0, -1.0], [3.0, -5.0], [100.0, 100.0]], [[2.0, 2.0], [4.0, 0.0], [6.0, 7.0]]])
MASK = torch.tensor([[True, True, False], [True, True, True]])
CARD = ModelCard("m", "r", "float32", width=2, max_length=8, layers=1, pooling="cls", normalize=False)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", [[2.0, -3.0], [4.0, 3.0]]),
        ("cls", [[1.0, -1.0], [2.0, 2.0]]),
        ("max", [[3.0, -1.0], [6.0, 7.0]]),
        ("last", [[3.0, -5.0], [6.0, 7.0]]),
    ],
)
def test_padding_never_enters_a_vector(pooling: str, expected: list[list[float]]) -> None:
    assert pool(STATES, MASK, pooling).tolist() == expected


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last"])
def test_no_mask_means_a_token_everywhere(pooling: str) -> None:
    everywhere = torch.ones(2, 3, dtype=torch.bool)
    assert torch.equal(pool(STATES, None, pooling), pool(STATES, everywhere, pooling))


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last"])
def test_half_precision_states_are_pooled_in_float32(pooling: str) -> None:
    half = STATES.to(torch.bfloat16)
    pooled = pool(half, MASK, pooling)
    assert pooled.dtype is torch.float32
    assert torch.equal(pooled, pool(half.float(), MASK, pooling))


def test_cut_vectors_are_normalised_again_unless_the_job_says_no() -> None:
    cut = Recipe.of(JobOptions(dimensions=1), CARD)
    kept = Recipe.of(JobOptions(dimensions=1, normalize=False), CARD)
    vectors = torch.tensor([[3.0, 4.0]])
    assert finish(vectors, cut).tolist() == [[1.0]]
    assert finish(vectors, kept).tolist() == [[3.0]]


def test_a_job_that_says_nothing_gets_what_the_model_says() -> None:
    recipe = Recipe.of(JobOptions(), CARD)
    assert (recipe.pooling, recipe.normalize) == ("cls", False)
    assert finish(torch.tensor([[3.0, 4.0]]), recipe).tolist() == [[3.0, 4.0]]
    assert finish(torch.tensor([[3.0, 4.0]]), Recipe.of(JobOptions(normalize=True), CARD)).tolist() == [
        pytest.approx([0.6, 0.8])
    ]
