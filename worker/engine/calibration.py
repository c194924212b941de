"""Measures which number type, and which division of the work, is fastest for a model on this machine's CPU."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from storage.contract.options import JobOptions
from worker.engine.checkpoint import Checkpoint
from worker.engine.encoder import Encoder
from worker.engine.engine import Engine
from worker.engine.records import Batching
from worker.engine.samples import many_texts, sample_texts
from worker.engine.tokenizing import Tokenizer

#: Raised whenever other results may come of the same machine and model.
VERSION = 1

#: bfloat16 must be so many times as fast as float32: less could be noise, and would not be worth a digit.
LEAST_GAIN = 1.2

#: Cosines of its vectors to those of float32 must be at least so much, on average and each.
LEAST_MEAN, LEAST_COSINE = 0.9999, 0.9998

#: Another division of the work than the usual one must be so many times as fast.
LEAST_BATCHING_GAIN = 1.05

#: Budgets that are tried beside the usual one, in tokens.
_BUDGETS = (2048, 512)

#: Texts are cut at so many tokens: pages of a long model would take all the time.
_MAX_LENGTH = 512

#: Token budget while number types are compared: few texts are enough for every core.
_SMALL_BUDGET = 512

#: Tokens of an average text that speed is measured on, and how many of them warm an engine up.
_SAMPLE_TOKENS, _WARM_UP = 50, 20

#: A comparison of number types ends after so many rounds, or seconds.
_ROUNDS, _ROUNDS_SECONDS = 6, 2.5

#: Every division of the work is measured so often; one that is so much slower than another only once.
_BATCHING_ROUNDS, _HOPELESS = 3, 1.1


#: What is compared; the first is the one that the other must match.
_DTYPES = ("float32", "bfloat16")

#: Tells for how many seconds the processor was busy with us: others slow us down, but not both number types alike.
_busy = time.process_time

#: Most seconds to wait for the threads of an engine that was measured.
_STOP = 5.0


@dataclass(frozen=True, slots=True)
class Precision:
    """The number type to compute in.

    Args:
        dtype: `float32` or `bfloat16`.
        why: In a few words.
    """

    dtype: str
    why: str


#: What is chosen when the time is over.
NO_TIME = Precision("float32", "there was no time to measure bfloat16")


class Calibration:
    """One measurement of a model, with an end.

    Args:
        checkpoint: The model.
        seconds: What has not been measured after so long is not measured.
        cores: CPU cores that may be used.

    Raises:
        ModelBroken: When the checkpoint's files do not make a whole model.
    """

    def __init__(self, checkpoint: Checkpoint, seconds: float, cores: int) -> None:
        self._checkpoint = checkpoint
        self._end = time.monotonic() + seconds
        self._cores = cores
        self._tokenizer = Tokenizer(checkpoint)
        self._options = JobOptions(max_length=min(_MAX_LENGTH, checkpoint.max_length), prompt="")
        self._encoders: dict[str, Encoder] = {}
        #: Seconds that one comparison of the number types takes, and seconds of the processor that each took, by round.
        self._round = 0.0
        self._spent: dict[str, list[float]] = {}

    def encoder(self, dtype: str) -> Encoder:
        """Return the network in a number type, and keep it.

        Args:
            dtype: What it computes in.

        Raises:
            ModelBroken: When the checkpoint's files do not make a whole model.
        """
        if dtype not in self._encoders:
            self._encoders[dtype] = Encoder(self._checkpoint, "cpu", dtype)
        return self._encoders[dtype]

    def keep_only(self, dtype: str) -> None:
        """Forget the networks in other number types."""
        self._encoders = {name: encoder for name, encoder in self._encoders.items() if name == dtype}

    def precision(self) -> Precision:
        """Return what to compute in: bfloat16 where it is clearly faster and hardly differs, else float32."""
        start = time.monotonic()
        self.encoder("float32")
        if not self._allows(time.monotonic() - start):
            return NO_TIME
        self.encoder("bfloat16")
        cosines = self._cosines()
        if cosines is None:
            return NO_TIME
        self._compare_speed()
        least, mean = float(cosines.min()), float(cosines.mean())
        if not (least >= LEAST_COSINE and mean >= LEAST_MEAN):  # NaN too
            return Precision("float32", f"bfloat16 differs, cosine {mean:.5f} on average, {least:.5f} at least")
        gain = min(self._spent["float32"]) / min(self._spent["bfloat16"])
        if gain < LEAST_GAIN:
            return Precision("float32", f"bfloat16 is only {gain:.1f} x as fast here")
        return Precision("bfloat16", f"{gain:.1f} x float32 here, cosine at least {math.floor(1e5 * least) / 1e5}")

    def batching(self, dtype: str, usual: Batching) -> Batching:
        """Return how to divide the work.

        Args:
            dtype: What is computed in.
            usual: How it is divided where nothing else is clearly faster.
        """
        texts = many_texts(2 * self._cores * max(_BUDGETS) // _SAMPLE_TOKENS)
        budget, cores = usual.token_budget, self._cores
        ways = [(1, cores)] * (cores > 1) + [(cores // 2, 2)] * (cores > 3)
        shared = [Batching(token_budget=budget, cores=batches, threads=threads) for batches, threads in ways]
        best = self._fastest(dtype, usual, shared, texts)
        budgets = [best.model_copy(update={"token_budget": tokens}) for tokens in _BUDGETS]
        return self._fastest(dtype, best, budgets, texts, _busy)

    def _allows(self, seconds: float) -> bool:
        return time.monotonic() + seconds <= self._end

    def _cosines(self) -> NDArray[np.float64] | None:
        """Compare the vectors of both number types, kind by kind of text; None where there is no time for all.

        What it took is the first round of the comparison of speed.
        """
        found: list[NDArray[np.float64]] = []
        spent = dict.fromkeys(_DTYPES, 0.0)
        start, done = time.monotonic(), 0
        for texts in sample_texts():
            tokens = int(self._tokenizer.encode(texts, self._options.max_length or 0).tokens.sum())
            if done and not self._allows((time.monotonic() - start) / done * tokens):
                return None
            exact, half = (self._vectors(dtype, texts, spent) for dtype in _DTYPES)
            done += tokens
            lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(half, axis=1)
            found.append((exact * half).sum(axis=1) / lengths)
        self._round = time.monotonic() - start
        self._spent = {dtype: [seconds] for dtype, seconds in spent.items()}
        return np.concatenate(found)

    def _vectors(self, dtype: str, texts: list[str], spent: dict[str, float]) -> NDArray[np.float64]:
        """Return vectors; NaN everywhere when one had to be computed again in float32."""
        with self._engine(dtype, self._small) as engine:
            start = _busy()
            vectors = engine.embed(texts, self._options).vectors.astype(np.float64)
            spent[dtype] += _busy() - start
            return vectors * np.nan if engine.counts else vectors

    def _compare_speed(self) -> None:
        """Add rounds to the comparison of speed, as far as there is time for them."""
        texts = list(chain.from_iterable(sample_texts()))
        start = time.monotonic()
        while len(self._spent["float32"]) < _ROUNDS and time.monotonic() - start < _ROUNDS_SECONDS:
            if not self._allows(self._round):
                return
            for dtype, spent in self._spent.items():
                spent.append(self._seconds(dtype, self._small, texts, _busy))

    def _fastest(
        self,
        dtype: str,
        first: Batching,
        others: list[Batching],
        texts: list[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> Batching:
        """Return the first way, or another that is clearly faster."""
        if not others or not self._allows(self._round):
            return first
        expected = self._seconds(dtype, first, texts[:_WARM_UP]) / _WARM_UP * len(texts)
        spent: dict[Batching, list[float]] = {way: [] for way in (first, *others)}
        for _ in range(_BATCHING_ROUNDS):
            for way in spent:
                if not self._allows(expected):
                    return first
                start = time.monotonic()
                spent[way].append(self._seconds(dtype, way, texts, clock))
                expected = time.monotonic() - start
            quickest = min(map(min, spent.values()))
            spent = {way: of for way, of in spent.items() if way == first or min(of) <= _HOPELESS * quickest}
            if len(spent) == 1:
                return first
        best = min(spent, key=lambda way: min(spent[way]))
        return best if min(spent[first]) >= LEAST_BATCHING_GAIN * min(spent[best]) else first

    def _seconds(
        self, dtype: str, batching: Batching, texts: list[str], clock: Callable[[], float] = time.monotonic
    ) -> float:
        with self._engine(dtype, batching) as engine:
            start = clock()
            engine.embed(texts, self._options)
            return clock() - start

    @property
    def _small(self) -> Batching:
        return Batching(token_budget=_SMALL_BUDGET, cores=self._cores)

    @contextmanager
    def _engine(self, dtype: str, batching: Batching) -> Iterator[Engine]:
        ways = batching.model_dump()
        engine = Engine(self._checkpoint, encoder=self.encoder(dtype), tokenizer=self._tokenizer, **ways)
        try:
            yield engine
        finally:
            engine.stop(wait=_STOP)
