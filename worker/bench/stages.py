"""The stages of the way from texts to kept vectors, one after another on one thread, each with what it cost."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy import insert

from storage.contract.ids import new_id
from storage.contract.models import ModelCard
from storage.contract.options import JobOptions
from storage.contract.settings import Settings
from storage.database import open_database
from storage.results import ChunkResult
from storage.tables import ResultRow
from worker.bench.report import FORWARD, Stage
from worker.engine.call import Call, Lane
from worker.engine.checkpoint import Checkpoint
from worker.engine.encoderlike import EncoderLike
from worker.engine.flight import Flight
from worker.engine.pooling import Recipe
from worker.engine.tokenizing import Encodings, Tokenizer
from worker.engine.window import Batch, Window


class Timed:
    """An encoder whose forward passes are timed; everything else of it is its own.

    Args:
        encoder: The encoder.
        clock: Tells seconds, once all that was begun is done.
    """

    def __init__(self, encoder: EncoderLike, clock: Callable[[], float]) -> None:
        self._encoder = encoder
        self._clock = clock
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def forward(self, *arguments: Any) -> Any:
        """Do what the encoder does."""
        return self._timed(self._encoder.forward, arguments)

    def forward_flat(self, *arguments: Any) -> Any:
        """Do what the encoder does."""
        return self._timed(self._encoder.forward_flat, arguments)

    def _timed(self, work: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        start = self._clock()
        try:
            return work(*arguments)
        finally:
            self.seconds += self._clock() - start


class Stages:
    """Sends texts through stage after stage.

    Args:
        checkpoint: The model.
        encoder: Its network, used by nobody else meanwhile.
        card: What it is to others.
        budget: Most tokens of a batch.
        cores: CPU cores of the machine.
    """

    def __init__(self, checkpoint: Checkpoint, encoder: EncoderLike, card: ModelCard, budget: int, cores: int) -> None:
        self._on_gpu = encoder.device.type == "cuda"
        self._device = encoder.device
        self._tokenizer = Tokenizer(checkpoint, remembering=not self._on_gpu)
        self._encoder = Timed(encoder, self._device_clock)
        self._card = card
        self._budget = budget
        self._cores = cores
        self._pad_id = self._tokenizer.pad_id if self._tokenizer.pad_id < encoder.vocabulary else 0
        self._seconds = dict.fromkeys(("tokenize", "form batches", FORWARD, "pool", "write vectors"), 0.0)
        self._tokens = self._computed = 0
        #: The tokens of each text that went through.
        self.lengths: list[int] = []

    @property
    def padding(self) -> float:
        """Which share of all tokens in batches was padding, 0..1."""
        return 1 - self._tokens / self._computed

    def run(self, chunks: Iterator[list[str]], seconds: float) -> tuple[Stage, ...]:
        """Send chunks of texts through until the time is over, at least one; return what each stage cost."""
        end = time.perf_counter() + seconds
        with tempfile.TemporaryDirectory(prefix="embedmill-") as folder, torch.inference_mode():
            database = open_database(Settings(data_dir=Path(folder), database_url=None))
            try:
                while not self._tokens or time.perf_counter() < end:
                    self._chunk(next(chunks), database)
            finally:
                database.close()
        lanes = dict.fromkeys(self._seconds, self._cores) | {"write vectors": 1}
        if self._on_gpu:
            lanes |= {FORWARD: 1, "pool": 1}
        return tuple(Stage(name, spent, self._tokens, lanes[name]) for name, spent in self._seconds.items())

    def _chunk(self, texts: list[str], database: Any) -> None:
        with self._measuring("tokenize"):
            encodings = self._tokenizer.encode(texts, self._card.max_length)
        with self._measuring("form batches"):
            batches = self._batches(encodings)
        vectors = np.zeros((len(texts), self._card.width), np.float32)
        for batch in batches:
            self._embed(batch, vectors)
        start = time.perf_counter()
        self._write(vectors, encodings, database)
        self._seconds["write vectors"] += time.perf_counter() - start
        self.lengths += encodings.tokens.tolist()
        self._tokens += int(encodings.tokens.sum())
        self._computed += sum(batch.tokens for batch in batches)

    def _batches(self, encodings: Encodings) -> list[Batch]:
        options = JobOptions()
        recipe = Recipe.of(options, self._card)
        call = Call(encodings, encodings.errors, Lane(options.layer, 0), recipe, False, self._card.width)
        return Window([(call, 0, call.size)], self._encoder.packing).batches(self._budget)

    def _embed(self, batch: Batch, vectors: NDArray[np.float32]) -> None:
        before, start = self._encoder.seconds, self._device_clock()
        found = Flight(batch, self._encoder, self._card.width, self._card.states_width, self._pad_id).land()
        if isinstance(found, Exception):
            raise found
        forward = self._encoder.seconds - before
        self._seconds[FORWARD] += forward
        self._seconds["pool"] += self._device_clock() - start - forward
        for _, rows, numbers in batch.by_call():
            vectors[numbers] = found[0].matrix[rows]

    def _write(self, vectors: NDArray[np.float32], encodings: Encodings, database: Any) -> None:
        """Commit the vectors as one chunk's result."""
        found = ChunkResult(vectors, "float32", encodings.tokens, encodings.lengths, {})
        with database.write() as connection:
            row = {"job_id": new_id(), "number": 0, "token": 1, **found.to_row()}
            connection.execute(insert(ResultRow).values(row))

    def _device_clock(self) -> float:
        """Tell processor time, or on a GPU the time, once it has done what it was given."""
        if not self._on_gpu:
            return time.process_time()
        torch.cuda.synchronize(self._device)
        return time.perf_counter()

    @contextmanager
    def _measuring(self, stage: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self._seconds[stage] += time.process_time() - start
