"""Who is measured on a GPU: the engine, the engine without one of its parts, and sentence-transformers."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.invented import Texts
from storage.contract.options import JobOptions
from worker.engine import unpadded
from worker.engine.batching import Packing
from worker.engine.checkpoint import Checkpoint
from worker.engine.encoder import Encoder
from worker.engine.engine import Engine
from worker.engine.oncetokenizer import OnceTokenizer

Vectors = NDArray[np.float32]

#: Calls under way at once, as a worker's task threads have.
_CALLS = 5
_BATCH_SIZES = (32, 128, 256, 512, 1024)

#: The engine in that half precision of two which was not asked for.
OTHER_HALF = "the other half"


class PaddedEncoder(Encoder):
    """The strong baseline: transformers' own network on batches sorted by length, padded within the token budget."""

    packing = Packing.PADDED  # type: ignore[assignment]


@contextmanager
def nothing_fused() -> Iterator[None]:
    """Have encoders made meanwhile pack texts through transformers' own layers."""
    flatten, unpadded.flatten = unpadded.flatten, lambda *_: None
    try:
        yield
    finally:
        unpadded.flatten = flatten


class Ours:
    """An engine, given chunks by several threads.

    Args:
        engine: The engine.
        once: Its tokenizer, which has read all texts before they are measured; None has it tokenize meanwhile.
    """

    def __init__(self, engine: Engine, once: OnceTokenizer | None = None) -> None:
        self.engine = engine
        self._once = once

    def run(self, chunks: list[Texts]) -> tuple[float, Vectors]:
        """Return how many seconds the chunks took, and their vectors."""
        if self._once is not None:
            for chunk in chunks:
                # As the engine asks for them: those that are alike once.
                self._once.encode(list(dict.fromkeys(chunk)), self.engine.card.max_length)
        with ThreadPoolExecutor(_CALLS) as pool:
            start = time.perf_counter()
            found = list(pool.map(lambda chunk: self.engine.embed(chunk, JobOptions(normalize=True)), chunks))
            seconds = time.perf_counter() - start
        return seconds, np.concatenate([each.vectors for each in found])


class SentenceTransformers:
    """sentence-transformers in half precision, at the best of several batch sizes for each kind of texts."""

    def __init__(self, checkpoint: Checkpoint, device: str, dtype: torch.dtype) -> None:
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(str(checkpoint.folder), device=device, model_kwargs={"dtype": dtype})
        self.best: int | None = None

    def run(self, chunks: list[Texts]) -> tuple[float, Vectors]:
        """Return how many seconds the chunks took, and their vectors; the first time, find the best batch size."""
        texts = list(itertools.chain(*chunks))
        if self.best is None:
            self._encode(texts[:64], 32)
            self.best = min(_BATCH_SIZES, key=lambda size: self._encode(texts[: len(texts) // 4 + 1], size)[0])
        return self._encode(texts, self.best)

    def _encode(self, texts: Texts, batch_size: int) -> tuple[float, Vectors]:
        start = time.perf_counter()
        vectors = self._model.encode(
            texts, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True
        )
        return time.perf_counter() - start, np.asarray(vectors, np.float32)


Rival = Ours | SentenceTransformers


def rivals_of(checkpoint: Checkpoint, device: str, dtype: str, budget: int | None) -> dict[str, Rival]:
    """Load everybody who is measured."""
    once = OnceTokenizer(checkpoint)

    def ours(kind: type[Encoder] = Encoder, half: str = dtype, flights: int | None = None) -> Ours:
        encoder = kind(checkpoint, device, half)
        return Ours(Engine(checkpoint, token_budget=budget, encoder=encoder, tokenizer=once, flights=flights), once)

    found: dict[str, Rival] = {
        "engine": ours(),
        "engine and tokenizer": Ours(Engine(checkpoint, device, dtype, budget)),
        "no launch-ahead": ours(flights=1),
        OTHER_HALF: ours(half=_other_half(dtype)),
    }
    with nothing_fused():
        found["packed, not fused"] = ours()
        found["padded baseline"] = ours(PaddedEncoder)
    try:
        found["sentence-transformers"] = SentenceTransformers(checkpoint, device, getattr(torch, dtype))
    except ImportError:
        print("sentence-transformers is not installed: left out")
    return found


def _other_half(dtype: str) -> str:
    return "float16" if dtype == "bfloat16" else "bfloat16"
