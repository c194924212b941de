"""Attention over texts of about the same length: what each text sees is itself, whatever stands beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from worker.engine.attention import attend
from worker.engine.buckets import attend_in_buckets, buckets_of, products_are_fast
from worker.engine.packed import Packed

HEADS, COMPONENTS = 3, 32

LENGTHS = [
    [16, 16],
    [1],
    [300, 290, 97, 96, 81, 80, 79, 33, 32, 31, 17, 16, 15, 2, 1, 1],
    [40, 40, 40, 40],
    [5, 200, 5, 33],
]


def states(lengths: list[int], seed: int = 0) -> torch.Tensor:
    """Return query, key and value as a network makes them, shape (3, tokens, heads, components)."""
    generator = torch.Generator().manual_seed(seed)
    made = torch.randn(sum(lengths), 3, HEADS, COMPONENTS, generator=generator)
    return made.bfloat16().transpose(0, 1)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("scale", [COMPONENTS**-0.5, 1.0])
@pytest.mark.parametrize("in_blocks", [False, True])
def test_it_is_attention_as_torch_computes_it_text_by_text(lengths: list[int], scale: float, in_blocks: bool) -> None:
    # Given texts laid end to end
    made = states(lengths)
    # When they attend together
    found = attend_in_buckets(*made, buckets_of(lengths, in_blocks), scale, in_blocks)
    # Then each has what it has alone, computed in float32, as nearly as scores in bfloat16 allow
    for text, part in zip(found.split(lengths), made.float().split(lengths, dim=1), strict=True):
        wanted = torch.nn.functional.scaled_dot_product_attention(*part.transpose(1, 2), scale=scale).transpose(0, 1)
        assert (text.float() - wanted).norm() < 0.02 * wanted.norm()


@pytest.mark.parametrize("in_blocks", [False, True])
def test_a_text_has_the_same_bits_alone_and_in_company(in_blocks: bool) -> None:
    # Given texts, some of which need filling up beside the others
    lengths = [64, 63, 50, 49, 16, 15, 3]
    made = states(lengths)
    together = attend_in_buckets(*made, buckets_of(lengths, in_blocks), 0.2, in_blocks)
    # When each attends alone, then nothing differs
    for text, part, tokens in zip(together.split(lengths), made.split(lengths, dim=1), lengths, strict=True):
        alone = attend_in_buckets(*part, buckets_of([tokens], in_blocks), 0.2, in_blocks)
        torch.testing.assert_close(alone, text, rtol=0, atol=0)


@pytest.mark.parametrize("in_blocks", [False, True])
def test_what_is_filled_up_weighs_nothing_however_large_the_scores(in_blocks: bool) -> None:
    # Given a text whose scores are all far below zero, beside a longer one
    lengths = [32, 20]
    query, key, value = states(lengths)
    query, key = query.abs() * 30, -key.abs() * 30
    # When they attend together, then the shorter one sees its own tokens alone
    found = attend_in_buckets(query, key, value, buckets_of(lengths, in_blocks), 1.0, in_blocks)
    alone = attend_in_buckets(query[32:], key[32:], value[32:], buckets_of([20], in_blocks), 1.0, in_blocks)
    torch.testing.assert_close(found[32:], alone, rtol=0, atol=0)
    assert found.isfinite().all()


@pytest.mark.parametrize("lengths", [*LENGTHS, [16] * 100])
@pytest.mark.parametrize("in_blocks", [False, True])
def test_buckets_hold_every_token_once(lengths: list[int], in_blocks: bool) -> None:
    buckets = buckets_of(lengths, in_blocks)
    assert [bucket.start for bucket in buckets[1:]] == [bucket.end for bucket in buckets[:-1]]
    assert (buckets[0].start, buckets[-1].end) == (0, sum(lengths))
    assert sum(bucket.texts for bucket in buckets) == len(lengths)
    for bucket in buckets:
        if bucket.rows is not None and bucket.kept is not None:
            assert bucket.rows[bucket.kept].tolist() == list(range(bucket.start, bucket.end))


def test_products_come_in_few_shapes() -> None:
    # Given batches of texts of any length, as they lie in a window sorted by length
    generator = np.random.default_rng(1)
    shapes = set()
    for _ in range(2_000):
        lengths = np.sort(generator.integers(1, 257) + generator.integers(0, 10, 200))
        full = lengths[: np.searchsorted(lengths.cumsum(), 1_024)].tolist()
        # When they are divided into buckets
        shapes |= {(bucket.texts, bucket.width) for bucket in buckets_of(full, False)}
    # Then a library that prepares itself for each shape does so a hundred times at most
    assert len(shapes) <= 100
    assert all(texts * width <= 512 for texts, width in shapes)


@pytest.mark.skipif(not products_are_fast(), reason="this CPU build of torch multiplies no bfloat16 matrices at once")
def test_a_network_in_bfloat16_attends_in_buckets_up_to_a_length() -> None:
    # Given texts within and beyond the length that is left to torch's own kernel
    for lengths, is_bucketed in ([200, 40], True), ([513, 40], False):
        made = states(lengths)
        packed = Packed.of(np.zeros(sum(lengths), np.int32), np.array(lengths), torch.device("cpu"))
        # When a network attends, then the buckets are made only where they are used, and both agree
        found = attend(*made, packed)
        assert ("buckets" in packed.__dict__) == is_bucketed
        wanted = attend_in_buckets(*made, buckets_of(lengths, False), COMPONENTS**-0.5, False)
        assert (found.float() - wanted.float()).norm() < 0.01 * wanted.float().norm()
