"""The engine: one loaded encoder on one device, shared by every thread that has texts to embed.

Texts are tokenized in the thread that brings them. Threads of the engine's own work the device, one on a GPU, one for
each core of a CPU: they sort encodings of all calls by length, send them through the encoder batch by batch, and give
every row back to its call. A text that cannot be embedded costs only itself; a device that fails ends the engine, and
charges no text: `runner.py` tells the one from the other.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence

import numpy as np
import torch

from storage.contract.errors import ModelBroken
from storage.contract.models import ModelCard
from storage.contract.options import JobOptions
from storage.contract.tokens import TokenizerFile
from storage.outcomes import ItemError
from worker import measures
from worker.engine.backends import load_encoder
from worker.engine.call import Call, Embedded, Lane
from worker.engine.checkpoint import Checkpoint
from worker.engine.encoderlike import EncoderLike
from worker.engine.exact import Exact
from worker.engine.failures import EngineFailed, EngineStopped, NoVectors
from worker.engine.flight import Flight
from worker.engine.pooling import Recipe
from worker.engine.processor import available_cores
from worker.engine.runner import Runner
from worker.engine.tally import Tally
from worker.engine.tokenizing import NO_TOKEN, Encodings, Tokenizer
from worker.engine.waiting import WaitingRoom

#: Tokens of a batch, padding included where there is any. On a CPU larger batches fall out of its caches and pad more;
#: on a GPU smaller ones leave it waiting for launches.
CPU_TOKEN_BUDGET = 1024
CUDA_TOKEN_BUDGET = 32_768

#: Batches that a GPU is given at once: it computes one while the vectors of the one before are delivered.
CUDA_FLIGHTS = 2

#: Most seconds that the interpreter's end waits for the batch on the device.
_LAST_BATCH = 10.0

#: A text that every model embeds: the warm-up shows it, and a failure on it is not a text's.
HARMLESS = "warm"

_log = logging.getLogger(__name__)


class Engine:
    """Embeds texts on one device for any number of threads.

    Args:
        checkpoint: The model to load.
        device: `cpu`, `cuda` or `cuda:n`.
        dtype: `auto`, `float32`, `bfloat16`, `float16` or, with OpenVINO, `int8`.
        token_budget: Most tokens of a batch, padding included; None takes what suits the device.
        cores: CPU cores to compute on, each a batch of its own, since several cores in one small batch mostly wait for
            each other; None takes as many as torch would.
        encoder: A loaded network to use in place of the checkpoint's own.
        threads: CPU threads that compute one batch; all of torch in this process has as many from then on.
        tokenizer: The checkpoint's tokenizer, where it is loaded already.
        flights: Most batches a thread has sent to the device before it waits for the oldest; None takes what suits it.
        backend: `torch` or `openvino`; None takes torch, and OpenVINO for int8.

    Raises:
        ModelBroken: When the checkpoint's files do not make a whole model.
        ModelRefused: When its network cannot be computed in int8.
        InvalidOption: When the dtype is unknown, or does not go with backend and device.
        MissingExtra: When OpenVINO is not installed.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "cpu",
        dtype: str = "auto",
        token_budget: int | None = None,
        cores: int | None = None,
        encoder: EncoderLike | None = None,
        flights: int | None = None,
        threads: int = 1,
        tokenizer: Tokenizer | None = None,
        backend: str | None = None,
    ) -> None:
        cores = cores or available_cores()
        self._encoder = encoder or load_encoder(checkpoint, device, dtype, backend, cores)
        self.card: ModelCard = checkpoint.card(self._encoder.precision)
        on_gpu = self._encoder.device.type == "cuda"
        self._tokenizer = tokenizer or Tokenizer(checkpoint, remembering=not on_gpu)
        self._cores = count = 1 if on_gpu else cores
        budget = token_budget or (CUDA_TOKEN_BUDGET if on_gpu else CPU_TOKEN_BUDGET)
        self._room = WaitingRoom(budget, top_up=on_gpu, takers=count, packing=self._encoder.packing)
        self._alone = itertools.count(1)
        self._most_flights = flights or (CUDA_FLIGHTS if on_gpu else 1)
        self._tally = Tally()
        pad_id = self._tokenizer.pad_id if self._tokenizer.pad_id < self._encoder.vocabulary else 0
        harmless = self._tokenizer.encode([HARMLESS], self.card.max_length).ids
        exact = Exact(checkpoint, self._encoder)
        widths = self.card.width, self.card.states_width
        self._runner = Runner(self._encoder, exact, *widths, pad_id, harmless, self._room, self._tally)
        if not on_gpu:
            torch.set_num_threads(threads)
        self._threads = [threading.Thread(target=self._work, name=f"engine-{i}", daemon=True) for i in range(count)]
        if self._most_flights == 1:
            # Beside the others, on their cores: an urgent text waits for none of their batches, and takes so little
            # that they hardly notice. What is sent ahead to a device is computed in turn, whoever sent it.
            self._threads.append(threading.Thread(target=self._work, args=[True], name="engine-urgent", daemon=True))
        for thread in self._threads:
            thread.start()
        # A thread that the interpreter's end finds inside torch would abort the process.
        atexit.register(self.stop, _LAST_BATCH)

    @property
    def progress(self) -> float:
        """When the oldest work under way began, on `time.monotonic`'s clock; now while the engine has nothing to do."""
        return self._room.progress

    @property
    def tokenizer_file(self) -> TokenizerFile:
        """The tokenizer as it is at work here, for those who have no model."""
        return self._tokenizer.to_file()

    @property
    def encoder(self) -> EncoderLike:
        """The loaded network."""
        return self._encoder

    @property
    def cores(self) -> int:
        """How many threads work the device: one for each CPU core it computes on, one on a GPU."""
        return self._cores

    @property
    def token_budget(self) -> int:
        """Most tokens of a batch planned from now on."""
        return self._room.budget

    @property
    def counts(self) -> Counter[str]:
        """How often each defence was needed since the last `take_counts`.

        `batches_bisected`, `budgets_halved` and `vectors_refused`; those that were not needed are not named.
        """
        return self._tally.show()

    def take_counts(self) -> Counter[str]:
        """Return the counts and begin anew."""
        return self._tally.take()

    def warm(self) -> None:
        """Send a short and a long text through, so that the first job finds everything allocated.

        Raises:
            ModelBroken: When no usable vectors come out.
            EngineFailed: When the device fails, or has no memory for the longest text.
        """
        try:
            found = self.embed([HARMLESS, f"{HARMLESS} " * self.card.max_length], JobOptions(prompt=""), urgent=True)
        except NoVectors as error:
            raise self._unfit(error.message) from error
        if found.errors:
            raise self._unfit(next(iter(found.errors.values())).message)

    def embed(self, texts: Sequence[str], options: JobOptions, urgent: bool = False) -> Embedded:
        """Embed texts, those that are alike once; may be called by several threads at once.

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
            place_of = {text: place for place, text in enumerate(dict.fromkeys(texts))}
            with measures.here.taking("tokenize"):
                call = self._call(list(place_of), options, urgent)
        with measures.piece("forward"):
            if call.size:
                self._room.put(call)
            try:
                found = call.result()
            finally:
                self._room.leave(call)
        if len(place_of) == len(texts):
            return found
        return found.at(np.array([place_of[text] for text in texts], np.int64))

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

    def _unfit(self, reason: str) -> ModelBroken:
        return ModelBroken(f"{self.card.name} makes no usable vectors: {reason}", "Save or download it again.")

    def _call(self, texts: Sequence[str], options: JobOptions, urgent: bool) -> Call:
        prompt = options.prompt_for(self.card)
        max_length = options.max_length or self.card.max_length
        encodings = self._tokenizer.encode([prompt + text for text in texts] if prompt else texts, max_length)
        errors = {**({} if prompt else self._contentless(encodings)), **encodings.errors, **self._unreadable(encodings)}
        if options.on_long == "error":
            for place in np.flatnonzero(encodings.lengths > max_length).tolist():
                length = int(encodings.lengths[place])
                errors[place] = ItemError("too_long", f"The text has {length} tokens, more than {max_length}.")
        padded = max_length if options.padding == "max_length" else 0
        lane = Lane(options.layer, padded, next(self._alone) if options.deterministic else 0)
        recipe = Recipe.of(options, self.card)
        return Call(encodings, errors, lane, recipe, urgent, options.width(self.card))

    def _contentless(self, encodings: Encodings) -> dict[int, ItemError]:
        """Find texts that special tokens alone are left of: all of them would have one vector, which means nothing."""
        return dict.fromkeys(np.flatnonzero(encodings.lengths <= self._tokenizer.special_tokens).tolist(), NO_TOKEN)

    def _unreadable(self, encodings: Encodings) -> dict[int, ItemError]:
        """Find texts with ids beyond the embedding table, which would not fail cleanly on every device."""
        if not encodings.ids.size or int(encodings.ids.max()) < self._encoder.vocabulary:
            return {}
        beyond = np.flatnonzero(encodings.ids >= self._encoder.vocabulary)
        places = np.unique(np.searchsorted(encodings.offsets, beyond, side="right") - 1)
        error = ItemError("encoder_failed", "The text has a token that the model's weights do not know.")
        return {int(place): error for place in places}

    def _work(self, urgent: bool = False) -> None:
        try:
            with torch.inference_mode():
                self._keep_flying(urgent)
        except BaseException as error:  # whatever ends this thread, nobody may wait for it for ever
            _log.exception("the engine has failed")
            kind = type(error).__name__
            self._room.close(error if isinstance(error, EngineFailed) else EngineFailed(f"{kind} in the engine."))
        finally:
            self._room.leave_off()

    def _keep_flying(self, urgent: bool) -> None:
        """Launch batch after batch; wait for the oldest only when enough are under way, or nothing else is to do."""
        flights: deque[Flight] = deque()
        while (batch := self._room.next(not flights, urgent)) is not None or flights:
            if batch is None:
                # The oldest alone: what came meanwhile is launched before the others are waited for.
                self._land(flights.popleft())
                continue
            flights.append(self._runner.launch(batch))
            # What has failed is seen to at once, but alone on the device.
            while flights and (len(flights) >= self._most_flights or flights[-1].has_failed):
                self._land(flights.popleft())

    def _land(self, flight: Flight) -> None:
        self._runner.land(flight)
        self._room.finished()
