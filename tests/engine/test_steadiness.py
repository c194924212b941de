"""Rows of a product in any company: how they are taken so that they are the same numbers, and where that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel

from tests.engine.ends import packed_of, texts_of
from tests.engine.test_flatbert import needs_operators
from worker.engine.checkpoint import Checkpoint
from worker.engine.flatbert import flatten
from worker.engine.packedlinear import PackedLinear, operators_work
from worker.engine.steadiness import Blocks, find_blocks

bfloat16 = torch.bfloat16


def library(divides: Callable[[int], bool]) -> Callable[[Tensor], Tensor]:
    """A product that divides its sums in two where that many rows are said to be so divided."""
    weight = torch.linspace(-1, 1, 64 * 8).reshape(64, 8)

    def product(rows: Tensor) -> Tensor:
        rows = rows.float()
        if divides(len(rows)):
            return (rows[:, :32] @ weight[:32] + 0.01 + rows[:, 32:] @ weight[32:]).to(bfloat16)
        return torch.stack([row @ weight for row in rows]).to(bfloat16)

    return product


@pytest.mark.parametrize(
    ("divides", "found"),
    [
        (lambda count: False, Blocks()),
        (lambda count: 32 < count < 384, Blocks(32, 384)),
        (lambda count: 16 < count < 100, Blocks(16, 128)),
        (lambda count: 8 < count < 64, Blocks(8, 64)),
        # Where even a few rows differ, or many do, nothing helps.
        (lambda count: count < 100, None),
        (lambda count: 32 < count < 700, None),
    ],
)
def test_blocks_are_found_by_trying(divides: Callable[[int], bool], found: Blocks | None) -> None:
    assert find_blocks(library(divides), 64, bfloat16) == found


def test_few_rows_are_taken_in_blocks_and_many_at_once() -> None:
    blocks = Blocks(32, 384)
    assert [blocks.of(count) for count in (1, 32, 33, 383, 384, 5000)] == [1, 32, 32, 32, 384, 5000]
    assert [Blocks().of(count) for count in (1, 33, 5000)] == [1, 33, 5000]


@needs_operators
@pytest.mark.parametrize("adding", [False, True])
def test_a_layer_that_takes_blocks_computes_what_it_did(adding: bool) -> None:
    # Given a layer, and rows whose number is no multiple of a block's
    layer, rows, other = PackedLinear(nn.Linear(64, 96)), torch.randn(100, 64), torch.randn(100, 96)
    with torch.inference_mode():
        wanted = layer.plus(rows, other) if adding else layer(rows)
        # When it takes them in blocks
        layer.blocks = Blocks(16, 384)
        found = layer.plus(rows, other) if adding else layer(rows)
    # Then each row has its own sum
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not operators_work(bfloat16), reason="this CPU build of torch has no packed linear layers")
def test_where_a_network_is_steady_a_texts_states_are_the_same_bits_in_any_company(minilm: Checkpoint) -> None:
    # Given MiniLM in bfloat16, as it is loaded
    flat = flatten(AutoModel.from_pretrained(minilm.folder, dtype=bfloat16).eval(), bfloat16)
    assert flat is not None
    # When texts are computed alone and together, on one thread as in an engine
    texts, threads = texts_of([5, 40, 100, 200, 300, 60]), torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        together = flat(packed_of(texts), -1)
        alone = torch.cat([flat(packed_of([text]), -1) for text in texts])
    torch.set_num_threads(threads)
    # Then they are near each other, and the same where products can be had steady
    assert functional.cosine_similarity(together.float(), alone.float()).min() >= 0.999
    layers: Any = flat._layers
    if None not in [blocks for layer in layers for blocks in layer.find_blocks().values()]:
        assert flat.is_steady
    if flat.is_steady:
        assert torch.equal(together, alone)
