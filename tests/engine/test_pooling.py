"""Pooling on states small enough to reckon by hand."""

from __future__ import annotations

import math

import pytest
import torch

from storage.contract.models import ModelCard
from storage.contract.options import JobOptions
from worker.engine.pooling import Recipe, finish, pool

#: Texts of two, three and one token.
STATES = torch.tensor([[1.0, -1.0], [3.0, -5.0], [2.0, 2.0], [4.0, 0.0], [6.0, 7.0], [-8.0, 9.0]])
OFFSETS = torch.tensor([0, 2, 5, 6], dtype=torch.int32)
POOLINGS = ("mean", "cls", "max", "last", "mean_sqrt_len_tokens", "weightedmean")
CARD = ModelCard("m", "r", "float32", width=2, max_length=8, layers=1, pooling="cls", normalize=False)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", [[2.0, -3.0], [4.0, 3.0], [-8.0, 9.0]]),
        ("cls", [[1.0, -1.0], [2.0, 2.0], [-8.0, 9.0]]),
        ("max", [[3.0, -1.0], [6.0, 7.0], [-8.0, 9.0]]),
        ("last", [[3.0, -5.0], [6.0, 7.0], [-8.0, 9.0]]),
    ],
)
def test_a_vector_is_made_of_its_own_texts_tokens(pooling: str, expected: list[list[float]]) -> None:
    assert pool(STATES, OFFSETS, pooling).tolist() == expected


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean_sqrt_len_tokens", [[4 / 2**0.5, -6 / 2**0.5], [12 / 3**0.5, 9 / 3**0.5], [-8, 9]]),
        ("weightedmean", [[7 / 3, -11 / 3], [28 / 6, 23 / 6], [-8, 9]]),
    ],
)
def test_poolings_that_only_files_name_weigh_tokens_as_they_say(pooling: str, expected: list[list[float]]) -> None:
    torch.testing.assert_close(pool(STATES, OFFSETS, pooling), torch.tensor(expected))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_half_precision_states_are_pooled_in_float32(pooling: str) -> None:
    half = (STATES * 1.37).to(torch.bfloat16)
    pooled = pool(half, OFFSETS, pooling)
    assert pooled.dtype is torch.float32
    assert torch.equal(pooled, pool(half.float(), OFFSETS, pooling))


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_what_is_no_number_stays_in_its_own_text_and_is_seen_there(pooling: str, wrong: float) -> None:
    states = STATES.clone()
    states[2:5] = wrong
    pooled = pool(states, OFFSETS, pooling)
    assert not pooled[1].isfinite().any()
    assert torch.equal(pooled[[0, 2]], pool(STATES, OFFSETS, pooling)[[0, 2]])


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_same_states_give_the_same_vector_in_any_company(pooling: str) -> None:
    torch.manual_seed(2)
    lengths = [300, 17, 1, 511, 40]
    texts = [torch.randn(tokens, 64) for tokens in lengths]
    together = pool(torch.cat(texts), torch.tensor([0, *lengths]).cumsum(0).int(), pooling)
    for text, vector in zip(texts, together, strict=True):
        assert torch.equal(pool(text, torch.tensor([0, len(text)]).int(), pooling)[0], vector)


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
