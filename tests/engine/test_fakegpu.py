"""The way of a batch through a GPU, as far as it shows without one: devices, shapes, number types, and who waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from storage.contract.options import JobOptions
from tests.engine.ends import LENGTHS
from tests.engine.fakegpu import DEVICE, Waits, brought, fake_gpu
from tests.engine.packing import PACKABLE
from tests.models import FAMILIES, make_model
from worker.engine import attention, encoder, flight, packednetwork, transformersnetwork, unpadded
from worker.engine.batching import Packing
from worker.engine.call import Call, Lane
from worker.engine.checkpoint import Checkpoint, resolve
from worker.engine.encoder import Encoder
from worker.engine.flatbert import flatten
from worker.engine.flight import Flight, Vectors
from worker.engine.packednetwork import PackedNetwork
from worker.engine.pooling import Recipe
from worker.engine.tokenizing import Encodings
from worker.engine.unpadded import FlatNetwork
from worker.engine.window import Batch, Window

HIDDEN = 128


class NoClock:
    """A clock without events, which only a driver makes."""

    def __init__(self, device: torch.device) -> None:
        assert device == DEVICE

    def mark(self) -> None:
        pass

    def read(self) -> list[float]:
        return [0.0, 0.0]


@pytest.fixture(autouse=True)
def without_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight, "Clock", NoClock)
    monkeypatch.setattr(flight, "_fetch", lambda vectors: vectors)
    monkeypatch.setattr(attention, "_flash", lambda: kernel)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    root = tmp_path_factory.mktemp("gpu")
    return {kind: resolve(str(make_model(root / kind, kind, hidden=HIDDEN, layers=2))) for kind in FAMILIES}


def packed(network: Any, dtype: torch.dtype, first: FlatNetwork | None = None) -> FlatNetwork | None:
    """Choose as `without_padding` does, but that there are no numbers to compare."""
    if not attention.can_attend(DEVICE, dtype) or not network._supports_attention_backend:
        return None
    return flatten(network, dtype) or PackedNetwork(network)


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Checkpoint, str], Encoder]]:
    """Loads encoders on a GPU that is none, where all that a test does is done from then on."""
    monkeypatch.setattr(unpadded, "without_padding", packed)
    with ExitStack() as stack:

        def load(checkpoint: Checkpoint, dtype: str) -> Encoder:
            network = transformersnetwork.load_network(
                checkpoint.transformer, encoder.resolve_dtype(dtype, str(DEVICE))
            )
            monkeypatch.setattr(transformersnetwork, "load_network", lambda folder, dtype: brought(network))
            stack.enter_context(fake_gpu())
            return Encoder(checkpoint, str(DEVICE), dtype)

        yield load


def kernel(query: Tensor, key: Tensor, value: Tensor, *given: Any, **options: Any) -> Tensor:
    """Refuse what torch's flash kernels refuse, as they are written, and compute the shape."""
    offsets, others, *longest = given
    for part in (query, key, value):
        assert part.is_cuda and part.dtype in (torch.float16, torch.bfloat16) and part.stride(-1) == 1
        assert part.dim() == 3 and part.shape[2] % 8 == 0 and part.shape[2] <= 256
    for each in (offsets, others):
        assert each.is_cuda and each.dtype is torch.int32 and each.is_contiguous()
    assert longest == [max(LENGTHS)] * 2 and all(type(most) is int for most in longest)
    found: Tensor = varlen_attn(query, key, value, *given, **options)
    return found


def sent(checkpoint: Checkpoint, on: Encoder, padded: int, *options: JobOptions) -> list[Vectors]:
    """Send a call for each of some options through, all in one batch; return what is to be fetched."""
    ids = np.random.default_rng(1).integers(5, 100, sum(LENGTHS)).astype(np.int32)
    offsets = np.concatenate(([0], np.cumsum(LENGTHS)))
    encodings, card = Encodings(ids, offsets, np.array(LENGTHS, np.int32)), checkpoint.card("half")
    calls = [
        Call(encodings, {}, Lane(each.layer, padded), Recipe.of(each, card), False, each.width(card))
        for each in options
    ]
    window = Window([(call, 0, call.size) for call in calls], on.packing)
    found = Flight(Batch(window, np.arange(len(window.lengths))), on, HIDDEN, HIDDEN, 0).land()
    if isinstance(found, Exception):
        raise found
    return found


@pytest.mark.parametrize("padded", [0, 64], ids=["as-it-is", "max_length"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_a_batch_of_any_family_goes_through_a_gpu(
    checkpoints: dict[str, Checkpoint], on_gpu: Callable[..., Encoder], kind: str, dtype: str, padded: int
) -> None:
    # Given a model of any family on a GPU, packed where its kernels know the number type
    on = on_gpu(checkpoints[kind], dtype)
    assert on.packing is (Packing.FREE if kind in PACKABLE and dtype == "bfloat16" else Packing.PADDED)
    # When texts go through it, then their vectors are there to be fetched, and nobody has waited for the device
    (found,) = sent(checkpoints[kind], on, padded, JobOptions())
    assert found.matrix.shape == (len(LENGTHS), HIDDEN)
    assert (found.matrix.device, found.matrix.dtype) == (DEVICE, torch.float32)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_every_recipe_goes_through_a_gpu_in_one_batch(
    checkpoints: dict[str, Checkpoint], on_gpu: Callable[..., Encoder], dtype: str
) -> None:
    # Given calls that want everything there is
    poolings: list[Any] = ["mean", "cls", "max", "last"]
    options = [JobOptions(pooling=pooling, dimensions=32) for pooling in poolings]
    options += [JobOptions(pooling="mean", normalize=False), JobOptions(pooling="none")]
    # When they share a batch
    found = sent(checkpoints["roberta"], on_gpu(checkpoints["roberta"], dtype), 0, *options)
    # Then each has what it wanted, on the device
    shapes = sorted(tuple(each.matrix.shape) for each in found)
    assert shapes == [(len(LENGTHS), 32)] * 4 + [(len(LENGTHS), HIDDEN), (sum(LENGTHS), HIDDEN)]
    assert {(each.matrix.device, each.matrix.dtype) for each in found} == {(DEVICE, torch.float32)}


def test_two_devices_in_one_operator_and_whoever_waits_are_found() -> None:
    with fake_gpu():
        there, here = torch.ones(3, device=DEVICE), torch.ones(3)
        with pytest.raises(RuntimeError, match="at least two devices"):
            there + here
        for wait in (Tensor.cpu, Tensor.tolist, Tensor.item, lambda tensor: bool(tensor.any())):
            with pytest.raises(Waits):
                wait(there)


def test_no_mask_makes_a_gpu_wait_and_old_gpus_have_no_attention_over_packed_texts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given transformers' way to make a mask, which may look first whether there is any padding
    looked: list[bool] = []
    monkeypatch.setattr(packednetwork, "sdpa_mask", lambda **given: looked.append(given["allow_is_bidirectional_skip"]))
    for kind in ("cuda", "cpu"):
        mask = SimpleNamespace(device=torch.device(kind))
        packednetwork._mask_for_transformers(attention_mask=mask, allow_is_bidirectional_skip=True)
    # Then it does not on a GPU, where it would wait for what was launched before
    assert looked == [False, True]
    # And a GPU from before Ampere is given padded batches without trying others
    monkeypatch.setattr(attention, "_flash", lambda: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for capability, can in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        assert attention.can_attend(torch.device("cuda"), torch.float16) is can
    assert attention.can_attend(torch.device("cpu"), torch.float32)
