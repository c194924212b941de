"""Packed linear layers: the same answers, and no change where a machine cannot make them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModel

from worker.engine import packedlinear
from worker.engine.packedlinear import PackedLinear, pack_linears


def test_a_packed_layer_answers_as_the_layer_it_replaces() -> None:
    layer, states = nn.Linear(64, 96), torch.randn(2, 7, 64)
    if not packedlinear.operators_work(torch.float32):
        assert not pack_linears(nn.Sequential(layer), torch.float32)
        return
    with torch.inference_mode():
        plain = layer(states)
        torch.testing.assert_close(PackedLinear(layer)(states), plain, atol=1e-5, rtol=1e-5)
        gelu = nn.functional.gelu(plain)
        torch.testing.assert_close(PackedLinear(layer, gelu=True)(states), gelu, atol=1e-5, rtol=1e-5)


def test_no_layer_is_replaced_where_the_operators_give_other_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PackedLinear, "forward", lambda self, states: states.new_zeros(3, 5, 128))
    network = nn.Sequential(nn.Linear(64, 64))
    assert not pack_linears(network, torch.float32)
    assert type(network[0]) is nn.Linear


def test_a_number_type_that_is_not_packed_stays_as_it_is() -> None:
    network = nn.Sequential(nn.Linear(64, 64)).to(torch.float16)
    assert not pack_linears(network, torch.float16)
    assert type(network[0]) is nn.Linear


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_whatever_the_activation_the_states_are_the_same(tiny: Path, activation: str) -> None:
    network = AutoModel.from_pretrained(tiny, hidden_act=activation).eval()
    ids = torch.arange(5, 45).reshape(2, 20)
    with torch.inference_mode():
        before = network(input_ids=ids).last_hidden_state
        pack_linears(network, torch.float32)
        torch.testing.assert_close(network(input_ids=ids).last_hidden_state, before, atol=1e-5, rtol=1e-5)
