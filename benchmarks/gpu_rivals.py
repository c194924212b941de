"""Who is measured on a GPU: the engine, the engine without one of its parts, and sentence-transformers."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

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
from worker.engine.tokenizing import Encodings, Tokenizer

Vectors = NDArray[np.float32]

#: Calls under way at once, as a worker's task threads have.
_CALLS = 5
_BATCH_SIZES = (32, 128, 256, 512, 1024)


class Remembering:
    """A tokenizer that does its work once: what is measured with it is the engine without tokenizing."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, tuple[Sequence[str], Encodings]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode(self, texts: Sequence[str], max_length: int) -> Encodings:
        """Return what the tokenizer made of this very list the first time."""
        if id(texts) not in self._known:
            self._known[id(texts)] = texts, self._tokenizer.encode(texts, max_length)
        return self._known[id(texts)][1]


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
        remembering: What its tokenizer is replaced by; None has it tokenize while it is measured.
    """

    def __init__(self, engine: Engine, remembering: Remembering | None = None) -> None:
        self.engine = engine
        self._remembering = remembering
        if remembering is not None:
            engine._tokenizer = remembering  # type: ignore[assignment]

    def run(self, chunks: list[Texts]) -> tuple[float, Vectors]:
        """Return how many seconds the chunks took, and their vectors."""
        if self._remembering is not None:
            for chunk in chunks:
                self._remembering.encode(chunk, self.engine.card.max_length)
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

    def engine(flights: int | None = None, kind: type[Encoder] = Encoder) -> Engine:
        return Engine(checkpoint, token_budget=budget, encoder=kind(checkpoint, device, dtype), flights=flights)

    once = Remembering(Tokenizer(checkpoint))
    found: dict[str, Rival] = {
        "engine": Ours(engine(), once),
        "engine and tokenizer": Ours(engine()),
        "no launch-ahead": Ours(engine(flights=1), once),
    }
    with nothing_fused():
        found["packed, not fused"] = Ours(engine(), once)
        found["padded baseline"] = Ours(engine(kind=PaddedEncoder), once)
    try:
        found["sentence-transformers"] = SentenceTransformers(checkpoint, device, getattr(torch, dtype))
    except ImportError:
        print("sentence-transformers is not installed: left out")
    return found
