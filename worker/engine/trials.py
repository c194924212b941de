"""Engines of one model, tried on one processor or GPU until the time for it is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.contract.options import JobOptions
from worker.engine.checkpoint import Checkpoint
from worker.engine.encoder import Encoder
from worker.engine.engine import Engine
from worker.engine.gpu import Gpu
from worker.engine.oncetokenizer import OnceTokenizer
from worker.engine.processor import Processor
from worker.engine.tokenizing import Encodings

#: Texts are cut at so many tokens: pages of a long model would take all the time.
_MAX_LENGTH = 512

#: Most seconds to wait for the threads of an engine that was tried.
_STOP = 5.0


class Trials:
    """The trials of one start.

    Args:
        checkpoint: The model.
        place: Where it is tried.
        seconds: What was not begun after so long is not begun.

    Raises:
        ModelBroken: When the checkpoint's files do not make a whole model.
    """

    def __init__(self, checkpoint: Checkpoint, place: Processor | Gpu, seconds: float) -> None:
        self.place = place
        #: Seconds that the longest comparison so far took, all it compares together.
        self.round = 0.0
        self._checkpoint = checkpoint
        self._end = time.monotonic() + seconds
        self._tokenizer = OnceTokenizer(checkpoint)
        self._options = JobOptions(max_length=min(_MAX_LENGTH, checkpoint.max_length), prompt="")
        self._encoders: dict[str, Encoder] = {}

    def allows(self, seconds: float) -> bool:
        """Tell whether there is time for what takes so many seconds."""
        return time.monotonic() + seconds <= self._end

    def encoder(self, dtype: str) -> Encoder:
        """Return the network in a number type, and keep it.

        Args:
            dtype: What it computes in.

        Raises:
            ModelBroken: When the checkpoint's files do not make a whole model.
        """
        if dtype not in self._encoders:
            self._encoders[dtype] = Encoder(self._checkpoint, self.place.device, dtype)
        return self._encoders[dtype]

    def keep_only(self, dtype: str) -> None:
        """Forget the networks in other number types."""
        self._encoders = {name: encoder for name, encoder in self._encoders.items() if name == dtype}

    def tokens(self, texts: list[str]) -> int:
        """Return how many tokens of some texts are read."""
        return int(self._encodings(texts).tokens.sum())

    def vectors(self, dtype: str, texts: list[str], ways: dict[str, Any]) -> tuple[NDArray[np.float64], float]:
        """Return vectors, and the seconds they took; NaN everywhere when one had to be computed again in float32.

        Args:
            dtype: What is computed in.
            texts: What is embedded.
            ways: Arguments of `Engine`.
        """
        with self._engine(dtype, ways) as engine:
            self._encodings(texts)
            start = self.place.busy()
            vectors = engine.embed(texts, self._options).vectors.astype(np.float64)
            return vectors * np.nan if engine.counts else vectors, self.place.busy() - start

    def seconds(
        self, dtype: str, texts: list[str], ways: dict[str, Any], clock: Callable[[], float] | None = None
    ) -> float:
        """Return how many seconds the engine takes for some texts, tokenizing apart.

        Args:
            dtype: What is computed in.
            texts: What is embedded.
            ways: Arguments of `Engine`.
            clock: What tells seconds; None: the place's own.
        """
        clock = clock or self.place.busy
        with self._engine(dtype, ways) as engine:
            self._encodings(texts)
            start = clock()
            engine.embed(texts, self._options)
            return clock() - start

    def _encodings(self, texts: list[str]) -> Encodings:
        """Have texts tokenized, if they are not yet."""
        return self._tokenizer.encode(texts, self._options.max_length or 0)

    @contextmanager
    def _engine(self, dtype: str, ways: dict[str, Any]) -> Iterator[Engine]:
        engine = Engine(self._checkpoint, encoder=self.encoder(dtype), tokenizer=self._tokenizer, **ways)
        try:
            yield engine
        finally:
            engine.stop(wait=_STOP)
