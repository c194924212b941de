"""Networks without padding: every family that can be packed is, with the same vectors; the others stay padded."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel

from storage.contract.options import JobOptions
from tests.engine.ends import packed_of, texts_of
from tests.engine.packing import PACKABLE, load, padded_of, states_alone
from tests.models import CHARACTERS, FAMILIES, WORDS, make_model
from worker.engine.batching import Packing
from worker.engine.checkpoint import Checkpoint, resolve
from worker.engine.encoder import Encoder
from worker.engine.engine import Engine
from worker.engine.packed import Packed
from worker.engine.packednetwork import PackedNetwork, token_states
from worker.engine.unpadded import without_padding


@pytest.mark.parametrize("kind", FAMILIES)
def test_families_whose_attention_can_be_replaced_are_packed(tmp_path: Path, kind: str) -> None:
    encoder = Encoder(resolve(str(make_model(tmp_path, kind, hidden=64, layers=2))))
    assert encoder.packing is (Packing.SORTED if kind in PACKABLE else Packing.PADDED)


@pytest.mark.parametrize("kind", PACKABLE)
def test_transformers_own_network_gives_packed_texts_the_states_they_have_alone(tmp_path: Path, kind: str) -> None:
    alone, network, texts = load(tmp_path, kind), PackedNetwork(load(tmp_path, kind)), texts_of()
    with torch.inference_mode():
        for layer in (-1, 0, 1):
            wanted = states_alone(alone, texts, layer)
            torch.testing.assert_close(network(packed_of(texts), layer), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", PACKABLE)
def test_a_network_that_was_packed_still_takes_padded_texts(tmp_path: Path, kind: str) -> None:
    network, ours, texts = load(tmp_path, kind), load(tmp_path, kind), texts_of()
    PackedNetwork(ours)
    with torch.inference_mode():
        for chosen in (texts, texts[:2]):  # with padding and, both being equally long, without
            ids, mask = padded_of(chosen, network.config.pad_token_id)
            given = {"input_ids": ids, "attention_mask": mask.long()}
            found, wanted = token_states(ours, -1, **given), token_states(network, -1, **given)
            torch.testing.assert_close(found[mask], wanted[mask], atol=1e-6, rtol=1e-5)


def all_pooled(engine: Engine, texts: list[str], **options: object) -> dict[str, np.ndarray]:
    kinds = ("mean", "cls", "max", "last")
    return {pooling: engine.embed(texts, JobOptions(pooling=pooling, **options)).vectors for pooling in kinds}


@pytest.mark.parametrize("kind", PACKABLE)
def test_packed_padded_and_alone_a_text_has_the_same_vector(tmp_path: Path, kind: str) -> None:
    # Given texts of many lengths, one of them as long as all are padded to
    texts = [" ".join(WORDS[i : i + i % 9 + 1]) + CHARACTERS[: i % 4] for i in range(20)] + [" ".join(WORDS * 3)]
    engine = Engine(resolve(str(make_model(tmp_path, kind, hidden=64, layers=2))), cores=1)
    for layer in (-1, 0):
        # When they are embedded in one packed batch, padded to the maximum, and each alone
        packed = all_pooled(engine, texts, layer=layer, max_length=96)
        padded = all_pooled(engine, texts, layer=layer, max_length=96, padding="max_length")
        alone = [all_pooled(engine, [text], layer=layer, max_length=96) for text in texts]
        # Then no vector depends on it
        for pooling in packed:
            np.testing.assert_allclose(padded[pooling], packed[pooling], atol=1e-5, rtol=0)
            found = np.concatenate([each[pooling] for each in alone])
            np.testing.assert_allclose(found, packed[pooling], atol=1e-5, rtol=0)
    engine.stop(wait=10)


@pytest.mark.parametrize("kind", PACKABLE)
def test_a_text_never_sees_its_neighbours(tmp_path: Path, kind: str) -> None:
    # Given packed texts
    network, texts = without_padding(load(tmp_path, kind), torch.float32), texts_of()
    assert network is not None
    with torch.inference_mode():
        before = network(packed_of(texts), -1).split([len(text) for text in texts])
        for changed in range(len(texts)):
            # When one of them is another
            others = texts_of(seed=2)
            company = [*texts[:changed], others[changed], *texts[changed + 1 :]]
            after = network(packed_of(company), -1).split([len(text) for text in texts])
            # Then the states of all others are the same, bit by bit
            for place, (one, two) in enumerate(zip(before, after, strict=True)):
                assert torch.equal(one, two) is (place != changed)


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta", "bert"])
def test_the_padding_token_within_a_text_has_the_position_that_transformers_gives_it(tmp_path: Path, kind: str) -> None:
    network = load(tmp_path, kind)
    texts = texts_of([7, 7, 3])
    texts[1][[0, 3, 4]] = texts[2][-1] = network.config.pad_token_id
    flat = without_padding(load(tmp_path, kind), torch.float32)
    assert flat is not None
    with torch.inference_mode():
        wanted = torch.cat(
            [
                network(input_ids=text[None], attention_mask=torch.ones(1, len(text))).last_hidden_state[0]
                for text in texts
            ]
        )
        torch.testing.assert_close(flat(packed_of(texts), -1), wanted, atol=1e-5, rtol=1e-5)


def leak(query: Tensor, key: Tensor, value: Tensor, *_: object) -> Tensor:
    """Let every token see every text, as attention without a mask does."""
    parts = (part.transpose(0, 1) for part in (query, key, value))
    return functional.scaled_dot_product_attention(*parts).transpose(0, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("broken", ["nothing", "attention", "positions"])
@pytest.mark.parametrize("kind", ["minilm", "distilbert", "roberta"])
def test_a_network_that_answers_otherwise_is_found_out_in_every_number_type(
    minilm: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    dtype: torch.dtype,
    broken: str,
) -> None:
    # Given a network, and attention between texts or positions that go on from text to text
    if kind == "minilm":
        network = AutoModel.from_pretrained(minilm.folder, dtype=dtype, add_pooling_layer=False).eval()
    else:
        network = load(tmp_path, kind, dtype=dtype)
    if broken == "attention":
        monkeypatch.setattr("worker.engine.packednetwork.attend", leak)
        monkeypatch.setattr("worker.engine.flatbert.attend", leak)
    elif broken == "positions":
        monkeypatch.setattr(Packed, "places", lambda self, padding: torch.arange(len(self.ids)) + (padding or -1) + 1)
    own = network.config._attn_implementation
    # When it is tried
    with caplog.at_level(logging.WARNING):
        found = without_padding(network, dtype)
    # Then it is used if nothing is broken; else the log says why not, and the network is as it was
    assert (found is not None) is (broken == "nothing")
    assert ("answers otherwise" in caplog.text) is (broken != "nothing")
    assert broken == "nothing" or network.config._attn_implementation == own


def test_a_network_that_cannot_be_packed_says_so_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert without_padding(load(tmp_path, "mpnet"), torch.float32) is None
    assert "MPNetModel cannot be packed" in caplog.text and "an attention of its own" in caplog.text


def test_a_network_that_fails_is_passed_over_for_the_next(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fails(packed: Packed, layer: int) -> Tensor:
        raise IndexError("a table that is too short")

    # Given a network, and one made of its files that fails
    network, texts = load(tmp_path, "bert"), texts_of()
    # When that one is preferred
    found = without_padding(network, torch.float32, first=fails)
    # Then another is taken, which needs no padding either, and the log has the reason
    assert found is not None and found is not fails
    with torch.inference_mode():
        wanted = states_alone(load(tmp_path, "bert"), texts, -1)
        torch.testing.assert_close(found(packed_of(texts), -1), wanted, atol=1e-5, rtol=1e-5)
    assert "fails (IndexError: a table that is too short)" in caplog.text
