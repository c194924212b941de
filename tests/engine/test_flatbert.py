"""BERT's network without padding: the same states as transformers' own, and none where it cannot have them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from tests.engine.ends import packed_of, texts_of
from tests.engine.packing import load, states_alone
from worker.engine.flatbert import FlatBert, flatten
from worker.engine.packedlinear import PackedLinear, operators_work
from worker.engine.plainlinear import PlainLinear

needs_operators = pytest.mark.skipif(
    not operators_work(torch.float32), reason="this CPU build of torch has no packed linear layers"
)


@pytest.mark.parametrize("linear", [PlainLinear, pytest.param(PackedLinear, marks=needs_operators)])
@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "camembert"])
def test_states_are_those_of_transformers(
    tmp_path: Path, kind: str, linear: type[PlainLinear] | type[PackedLinear]
) -> None:
    network, texts = load(tmp_path, kind), texts_of()
    with torch.inference_mode():
        flat = FlatBert(network, linear)
        for layer in (-1, 0, 1):
            wanted = states_alone(network, texts, layer)
            torch.testing.assert_close(flat(packed_of(texts), layer), wanted, atol=1e-5, rtol=1e-5)


@needs_operators
@pytest.mark.parametrize("lengths", [[1], [16], [9, 9, 7, 100, 3, 1], [40, 7]])
def test_packed_products_come_in_few_sizes_and_change_nothing(tmp_path: Path, lengths: list[int]) -> None:
    # Given a network whose packed products tell how many rows they have
    network = load(tmp_path, "bert")
    flat, plain = FlatBert(network, PackedLinear), FlatBert(network, PlainLinear)
    seen: set[int] = set()
    for module in flat.modules():
        if isinstance(module, PackedLinear):
            # `plus` calls no hooks, but comes between two products that do.
            module.register_forward_pre_hook(lambda _, given: seen.add(len(given[0])))
    texts = [torch.arange(5, 5 + length) % 50 for length in lengths]
    # When batches of any number of tokens go through
    with torch.inference_mode():
        found, wanted = flat(packed_of(texts), -1), plain(packed_of(texts), -1)
    # Then every product has a multiple of 16 rows, and every token the states it has without
    assert seen == {-(-sum(lengths) // 16) * 16}
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@needs_operators
def test_layers_are_packed_where_the_operators_work(tmp_path: Path) -> None:
    flat = flatten(load(tmp_path, "bert"), torch.float32)
    assert any(isinstance(module, PackedLinear) for module in flat.modules())
    plain = flatten(load(tmp_path, "bert", dtype=torch.float16), torch.float16)
    assert not any(isinstance(module, PackedLinear) for module in plain.modules())


@pytest.mark.parametrize("kind", ["distilbert", "mpnet", "modernbert"])
def test_networks_of_another_build_are_not_flattened(tmp_path: Path, kind: str) -> None:
    assert flatten(load(tmp_path, kind), torch.float32) is None


def test_another_activation_is_not_flattened(tiny: Path) -> None:
    assert flatten(AutoModel.from_pretrained(tiny, hidden_act="relu").eval(), torch.float32) is None


@pytest.mark.parametrize("linear", [PlainLinear, pytest.param(PackedLinear, marks=needs_operators)])
def test_a_layer_adds_another_tensor_and_leaves_it_as_it_was(linear: type[PlainLinear] | type[PackedLinear]) -> None:
    layer, states, other = torch.nn.Linear(64, 96), torch.randn(7, 64), torch.randn(7, 96)
    kept = other.clone()
    with torch.inference_mode():
        wanted = layer(states) + other
        torch.testing.assert_close(linear(layer).plus(states, other), wanted, atol=1e-5, rtol=1e-5)
    assert torch.equal(other, kept)
