"""The network without padding: the same states as transformers' own, and no change where it cannot have them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from tests.models import make_model
from worker.engine import flatbert
from worker.engine.flatbert import FlatBert, flatten
from worker.engine.packedlinear import PackedLinear, operators_work

needs_operators = pytest.mark.skipif(
    not operators_work(torch.float32), reason="this CPU build of torch has no packed linear layers"
)


def batch(padding: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask of texts of 12, 12, 5 and 3 tokens."""
    ids = torch.arange(5, 5 + 4 * 12).reshape(4, 12)
    mask = torch.arange(12) < torch.tensor([12, 12, 5, 3])[:, None]
    ids[~mask] = padding
    return ids, mask


@needs_operators
@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "camembert"])
@pytest.mark.parametrize("layer", [-1, 0, 1])
def test_states_are_those_of_transformers(tmp_path: Path, kind: str, layer: int) -> None:
    network = AutoModel.from_pretrained(make_model(tmp_path / kind, kind, hidden=64, layers=2)).eval()
    flat = flatten(network, torch.float32)
    assert flat is not None
    ids, mask = batch(network.config.pad_token_id)
    with torch.inference_mode():
        wanted = network(input_ids=ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states[layer]
        found = flat(ids, mask, layer)
        torch.testing.assert_close(found[mask], wanted[mask], atol=1e-5, rtol=1e-5)
        # And a text's states do not depend on its company
        torch.testing.assert_close(flat(ids[2:3, :5], None, layer)[0], found[2, :5], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["distilbert", "mpnet", "modernbert"])
def test_networks_of_another_build_stay_as_they_are(tmp_path: Path, kind: str) -> None:
    assert (
        flatten(AutoModel.from_pretrained(make_model(tmp_path / kind, kind, hidden=64, layers=2)), torch.float32)
        is None
    )


def test_another_activation_stays_as_it_is(tiny: Path) -> None:
    assert flatten(AutoModel.from_pretrained(tiny, hidden_act="relu").eval(), torch.float32) is None


@needs_operators
def test_a_network_whose_answers_differ_stays_in_use(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = AutoModel.from_pretrained(tiny).eval()
    monkeypatch.setattr(FlatBert, "forward", lambda self, ids, mask, layer: ids.new_zeros(*ids.shape, 64).float())
    assert flatten(network, torch.float32) is None


def test_without_the_operators_nothing_is_flattened(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flatbert, "operators_work", lambda dtype: False)
    assert flatten(AutoModel.from_pretrained(tiny).eval(), torch.float32) is None


@needs_operators
def test_a_packed_layer_adds_another_tensor() -> None:
    layer, states, other = torch.nn.Linear(64, 96), torch.randn(7, 64), torch.randn(7, 96)
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(layer).plus(states, other), layer(states) + other, atol=1e-5, rtol=1e-5)
