"""Which number type is computed in: half precision where it is clearly faster than float32 and hardly differs."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.engine.gpu import Gpu
from worker.engine.samples import many_texts, sample_texts
from worker.engine.trials import Trials

#: Half precision must be so many times as fast as float32, and the coarser half so many times as fast as the finer:
#: less could be noise, and would not be worth a digit.
LEAST_GAIN = 1.2

#: Cosines of its vectors to those of float32 must be at least so much, on average and each.
LEAST_MEAN, LEAST_COSINE = 0.9999, 0.9998

#: Token budget of trials on a CPU: few texts are enough for every core.
_SMALL_BUDGET = 512

#: Trials end after so many rounds, or seconds.
_ROUNDS, _ROUNDS_SECONDS = 6, 2.5

#: Texts of a round on a GPU: so few to begin with, then more until float32 takes so many seconds. A batch that is
#: computed in less time than it takes to launch would show all number types equally fast.
_FEW_TEXTS, _MOST_TEXTS, _LONG_ROUND = 256, 65_536, 0.25

_EXACT = "float32"


@dataclass(frozen=True, slots=True)
class Precision:
    """The number type to compute in.

    Args:
        dtype: `float32`, `bfloat16` or `float16`.
        why: In a few words.
        was_tried: Whether there was time to find out.
    """

    dtype: str
    why: str
    was_tried: bool = True


@dataclass(frozen=True, slots=True)
class _Half:
    """How a half precision fares.

    Args:
        dtype: Its name.
        mean: Cosine of its vectors to those of float32, on average.
        least: The least of these.
        gain: Its speed in multiples of float32's.
    """

    dtype: str
    mean: float
    least: float
    gain: float

    @property
    def fault(self) -> str:
        """Why it is not taken; empty where it may be."""
        if not (self.least >= LEAST_COSINE and self.mean >= LEAST_MEAN):  # NaN too
            return f"{self.dtype} differs, cosine {self.mean:.5f} on average, {self.least:.5f} at least"
        return f"{self.dtype} is only {self.gain:.1f} x as fast here" if self.gain < LEAST_GAIN else ""


def choose_precision(trials: Trials) -> Precision:
    """Return what to compute in: of the half precisions that are fast and near enough the nearest, else float32.

    Args:
        trials: Where the engine is tried.

    Raises:
        ModelBroken: When the checkpoint's files do not make a whole model.
    """
    return _Comparison(trials).choose()


class _Comparison:
    def __init__(self, trials: Trials) -> None:
        self._trials = trials
        self._halves = trials.place.halves
        self._on_gpu = isinstance(trials.place, Gpu)
        self._ways: dict[str, Any] = (
            {} if self._on_gpu else {"token_budget": _SMALL_BUDGET, "cores": trials.place.cores}
        )
        #: Seconds that each number type took, by round.
        self._spent: dict[str, list[float]] = {dtype: [] for dtype in (_EXACT, *self._halves)}

    def choose(self) -> Precision:
        start = time.monotonic()
        self._trials.encoder(_EXACT)
        loading = time.monotonic() - start
        cosines = self._cosines() if self._trials.allows(loading * len(self._halves)) else None
        if cosines is None or not self._compare_speed():
            names = " or ".join(self._halves)
            return Precision(self._trials.place.usual_dtype, f"there was no time to measure {names}", was_tried=False)
        exact = min(self._spent[_EXACT])
        halves = [
            _Half(dtype, float(found.mean()), float(found.min()), exact / min(self._spent[dtype]))
            for dtype, found in cosines.items()
        ]
        fit = [half for half in halves if not half.fault]
        if not fit:
            return Precision(_EXACT, "; ".join(half.fault for half in halves))
        nearest, fastest = max(fit, key=lambda half: half.least), max(fit, key=lambda half: half.gain)
        taken = fastest if fastest.gain >= LEAST_GAIN * nearest.gain else nearest
        least = math.floor(1e5 * taken.least) / 1e5
        return Precision(taken.dtype, f"{taken.gain:.1f} x float32 here, cosine at least {least}")

    def _cosines(self) -> dict[str, NDArray[np.float64]] | None:
        """Compare vectors with float32's, kind by kind of text; None where there is no time for all.

        What it took is the first round of the comparison of speed.
        """
        found: dict[str, list[NDArray[np.float64]]] = {dtype: [] for dtype in self._halves}
        spent = dict.fromkeys(self._spent, 0.0)
        start, done = time.monotonic(), 0
        for texts in sample_texts():
            tokens = self._trials.tokens(texts)
            if done and not self._trials.allows((time.monotonic() - start) / done * tokens):
                return None
            vectors = {}
            for dtype in spent:
                vectors[dtype], seconds = self._trials.vectors(dtype, texts, self._ways)
                spent[dtype] += seconds
            for dtype, cosines in found.items():
                cosines.append(_cosines(vectors[_EXACT], vectors[dtype]))
            done += tokens
        self._trials.round = time.monotonic() - start
        for dtype, rounds in self._spent.items():
            rounds.append(spent[dtype])
        return {dtype: np.concatenate(cosines) for dtype, cosines in found.items()}

    def _compare_speed(self) -> bool:
        """Add rounds to the comparison of speed, as far as there is time; tell whether there is any."""
        texts = self._many_texts() if self._on_gpu else list(chain.from_iterable(sample_texts()))
        start = time.monotonic()
        while len(self._spent[_EXACT]) < _ROUNDS and time.monotonic() - start < _ROUNDS_SECONDS:
            if not self._trials.allows(self._trials.round):
                break
            for dtype, spent in self._spent.items():
                spent.append(self._trials.seconds(dtype, texts, self._ways))
        return bool(self._spent[_EXACT])

    def _many_texts(self) -> list[str]:
        """Return as many texts as keep a GPU busy; the rounds begin anew with them."""
        for rounds in self._spent.values():
            rounds.clear()
        count = _FEW_TEXTS
        while True:
            texts = many_texts(count)
            seconds = self._trials.seconds(_EXACT, texts, self._ways)
            # A half precision may be no faster.
            self._trials.round = seconds * len(self._spent)
            more = 4 * self._trials.round
            if seconds >= _LONG_ROUND or count >= _MOST_TEXTS or not self._trials.allows(more + 4 * seconds):
                return texts
            count *= 4


def _cosines(exact: NDArray[np.float64], half: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(half, axis=1)
    cosines: NDArray[np.float64] = (exact * half).sum(axis=1) / lengths
    return cosines
