"""The engine: one loaded encoder on one device, shared by every thread that has texts to embed.

Texts are tokenized in the thread that brings them. Threads of the engine's own work the device, one on a GPU, one for
each core of a CPU: they sort encodings of all calls by length, send them through the encoder batch by batch, and give
every row back to its call. A text that cannot be embedded costs only itself; a device that fails ends the engine, and
charges no text.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from storage.contract.errors import ModelBroken, ServerError
from storage.contract.models import ModelCard
from storage.contract.options import JobOptions
from storage.outcomes import ItemError
from worker.engine.call import Call, Embedded, Lane
from worker.engine.checkpoint import Checkpoint
from worker.engine.encoder import Encoder
from worker.engine.pooling import Recipe, finish, pool
from worker.engine.tokenizing import Encodings, Tokenizer
from worker.engine.waiting import WaitingRoom
from worker.engine.window import Batch

#: Tokens of a batch, padding included. On a CPU larger batches fall out of its caches and pad more; on a GPU smaller
#: ones leave it waiting for launches.
CPU_TOKEN_BUDGET = 1024
CUDA_TOKEN_BUDGET = 32_768

#: Most seconds that the interpreter's end waits for the batch on the device.
_LAST_BATCH = 10.0

#: As many as torch would compute on; asked before it is told to use one.
_PHYSICAL_CORES = torch.get_num_threads()

_log = logging.getLogger(__name__)


class EngineStopped(ServerError):
    """Raised when the engine was stopped before or while texts were embedded."""

    code = "engine_stopped"


class EngineFailed(ServerError):
    """Raised when the device or the encoder as a whole has failed; no text is to blame."""

    code = "engine_failed"


class _Vectors(NamedTuple):
    """The vectors of those rows of a batch that share a recipe; no rows named means all."""

    recipe: Recipe
    rows: NDArray[np.int64] | None
    matrix: NDArray[np.float32]


class Engine:
    """Embeds texts on one device for any number of threads.

    Args:
        checkpoint: The model to load.
        device: `cpu`, `cuda` or `cuda:n`.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        token_budget: Most tokens of a batch, padding included; None takes what suits the device.
        cores: CPU cores to compute on, each a batch of its own, since several cores in one small batch mostly wait for
            each other; None takes as many as torch would. Sets torch's own threads to 1 in this process.
        encoder: A loaded network to use in place of the checkpoint's own.

    Raises:
        ModelBroken: When the checkpoint's files do not make a whole model.
        InvalidOption: When the dtype is unknown.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "cpu",
        dtype: str = "auto",
        token_budget: int | None = None,
        cores: int | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        self._tokenizer = Tokenizer(checkpoint)
        self._encoder = encoder or Encoder(checkpoint, device, dtype)
        self.card: ModelCard = checkpoint.card(self._encoder.precision)
        self._pad_id = self._tokenizer.pad_id if self._tokenizer.pad_id < self._encoder.vocabulary else 0
        on_gpu = self._encoder.device.type == "cuda"
        count = 1 if on_gpu else cores or _available_cores()
        budget = token_budget or (CUDA_TOKEN_BUDGET if on_gpu else CPU_TOKEN_BUDGET)
        self._room = WaitingRoom(budget, top_up=on_gpu, takers=count)
        self._last = time.monotonic()
        if not on_gpu:
            torch.set_num_threads(1)
        self._threads = [threading.Thread(target=self._work, name=f"engine-{i}", daemon=True) for i in range(count)]
        for thread in self._threads:
            thread.start()
        # A thread that the interpreter's end finds inside torch would abort the process.
        atexit.register(self.stop, _LAST_BATCH)

    @property
    def progress(self) -> float:
        """When the engine last finished a batch, on `time.monotonic`'s clock; now while it has nothing to do."""
        return time.monotonic() if self._room.idle else self._last

    def warm(self) -> None:
        """Send a short and a long text through, so that the first job finds everything allocated.

        Raises:
            ModelBroken: When no usable vectors come out.
        """
        found = self.embed(["warm", "warm " * self.card.max_length], JobOptions(prompt=""), urgent=True)
        if found.errors:
            reason = next(iter(found.errors.values())).message
            raise ModelBroken(f"{self.card.name} makes no usable vectors: {reason}", "Save or download it again.")

    def embed(self, texts: Sequence[str], options: JobOptions, urgent: bool = False) -> Embedded:
        """Embed texts; may be called by several threads at once.

        Args:
            texts: Any number of texts.
            options: How to embed them.
            urgent: Whether they go before texts that are not urgent.

        Raises:
            InvalidOption: When the options do not fit the model.
            EngineStopped: When the engine is stopped.
            EngineFailed: When the device has failed.
        """
        options.check_against(self.card)
        with self._room.tokenizing():
            call = self._call(texts, options, urgent)
        if call.size:
            if self._room.idle:
                self._last = time.monotonic()
            self._room.put(call)
        try:
            return call.result()
        finally:
            self._room.leave(call)

    def stop(self, wait: float = 0.0) -> None:
        """End running and later calls with `EngineStopped`; the batch on the device is finished, its vectors dropped.

        Args:
            wait: Most seconds to wait for that batch.
        """
        atexit.unregister(self.stop)
        self._room.close(EngineStopped("The engine is stopped."))
        deadline = time.monotonic() + wait
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _call(self, texts: Sequence[str], options: JobOptions, urgent: bool) -> Call:
        prompt = self._prompt(options)
        max_length = options.max_length or self.card.max_length
        encodings = self._tokenizer.encode([prompt + text for text in texts] if prompt else texts, max_length)
        errors = {**encodings.errors, **self._unreadable(encodings)}
        if options.on_long == "error":
            for place in np.flatnonzero(encodings.lengths > max_length).tolist():
                length = int(encodings.lengths[place])
                errors[place] = ItemError("too_long", f"The text has {length} tokens, more than {max_length}.")
        lane = Lane(options.layer, max_length if options.padding == "max_length" else 0)
        recipe = Recipe.of(options, self.card)
        return Call(encodings, errors, lane, recipe, urgent, options.width(self.card))

    def _prompt(self, options: JobOptions) -> str:
        if options.prompt is not None:
            return options.prompt
        name = options.prompt_name or self.card.default_prompt_name
        return self.card.prompts[name] if name is not None else ""

    def _unreadable(self, encodings: Encodings) -> dict[int, ItemError]:
        """Find texts with ids beyond the embedding table, which would not fail cleanly on every device."""
        if not encodings.ids.size or int(encodings.ids.max()) < self._encoder.vocabulary:
            return {}
        beyond = np.flatnonzero(encodings.ids >= self._encoder.vocabulary)
        places = np.unique(np.searchsorted(encodings.offsets, beyond, side="right") - 1)
        error = ItemError("encoder_failed", "The text has a token that the model's weights do not know.")
        return {int(place): error for place in places}

    def _work(self) -> None:
        try:
            with torch.inference_mode():
                while (batch := self._room.next()) is not None:
                    self._run(batch)
                    self._room.finished()
                    self._last = time.monotonic()
        except Exception as error:
            _log.exception("the engine has failed")
            failure = (
                error if isinstance(error, EngineFailed) else EngineFailed(f"{type(error).__name__} in the engine.")
            )
            self._room.close(failure)

    def _run(self, batch: Batch, retried: bool = False) -> None:
        try:
            vectors = self._vectors(batch)
        except Exception as error:
            if _is_out_of_memory(error):
                self._shrink(batch, error)
            elif len(batch) > 1:
                for half in batch.halves():
                    self._run(half)
            else:
                self._blame(batch, error)
            return
        self._deliver(batch, vectors, retried)

    def _vectors(self, batch: Batch) -> list[_Vectors]:
        """Send a batch through the encoder and make vectors of it, recipe by recipe."""
        padded, present = batch.padded(self._pad_id)
        device = self._encoder.device
        ids = torch.from_numpy(padded).to(device)
        mask = None if present is None else torch.from_numpy(present).to(device)
        states = self._encoder.forward(ids, mask, batch.window.lane.layer)
        found = []
        for recipe, rows in batch.by_recipe():
            chosen = slice(None) if rows is None else torch.from_numpy(rows).to(device)
            pooled = pool(states[chosen], None if mask is None else mask[chosen], recipe.pooling)
            matrix = finish(self._encoder.project(pooled), recipe).cpu().numpy()
            found.append(_Vectors(recipe, rows, matrix))
        return found

    def _deliver(self, batch: Batch, vectors: list[_Vectors], retried: bool) -> None:
        for found in vectors:
            part = batch if found.rows is None else batch.only(found.rows)
            good = _usable(found.matrix, found.recipe.largest)
            for call, rows, numbers in part.by_call():
                kept = good[rows]
                call.deliver(numbers[kept], found.matrix[rows[kept]])
            for row in np.flatnonzero(~good).tolist():
                alone = part.only(np.array([row]))
                if retried or len(batch) == 1:
                    self._reject(
                        alone,
                        ItemError("bad_vector", "The vector is zero, not finite, or too large to be kept."),
                        read=True,
                    )
                else:
                    self._run(alone, retried=True)

    def _shrink(self, batch: Batch, error: Exception) -> None:
        if len(batch) == 1:
            raise EngineFailed(
                f"The device has no memory for one text of {batch.longest} tokens.",
                "Free memory on the device, or use a smaller max_length or model.",
            ) from error
        self._room.shrink(batch.longest * len(batch) // 2)
        _log.warning("out of memory: batches hold at most %d tokens from now on", self._room.budget)
        if self._encoder.device.type == "cuda":
            torch.cuda.empty_cache()
        for half in batch.halves():
            self._run(half)

    def _blame(self, batch: Batch, error: Exception) -> None:
        """Charge a failure to the one text of a batch, once a harmless text has shown that the encoder still works."""
        harmless = torch.from_numpy(self._tokenizer.encode(["a"], self.card.max_length).ids.astype(np.int64))[None]
        try:
            self._encoder.forward(harmless.to(self._encoder.device), None, -1).cpu()
        except Exception as second:
            raise EngineFailed(
                f"The encoder fails on every text ({type(second).__name__}).", "Restart the worker."
            ) from second
        kind = type(error).__name__
        self._reject(batch, ItemError("encoder_failed", f"The encoder failed on this text ({kind})."), read=False)

    def _reject(self, batch: Batch, error: ItemError, read: bool) -> None:
        for call, _, numbers in batch.by_call():
            for number in numbers.tolist():
                call.reject(number, error, read)


def _available_cores() -> int:
    """Return how many cores this process may use, by affinity; hyperthreads of one core gain nothing here."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, _PHYSICAL_CORES))


def _usable(matrix: NDArray[np.float32], largest: float) -> NDArray[np.bool_]:
    """Tell which rows are vectors: finite, not zero, and small enough to be kept."""
    sizes = np.abs(matrix)
    return np.asarray(np.all(sizes <= largest, axis=1) & np.any(sizes > 0, axis=1))


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
