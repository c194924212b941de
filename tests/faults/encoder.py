"""A deterministic encoder in place of a model: a text's vector is a hash of it, and marked texts make it misbehave."""

from __future__ import annotations

import collections
import ctypes
import os
import signal
import threading
import time
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.contract.errors import ServerError
from storage.contract.failpoints import VARIABLE
from storage.contract.models import ModelCard
from storage.contract.options import JobOptions
from storage.outcomes import ItemError
from tests.worker.engines import Embedded
from worker.embedding import PROBE

WIDTH = 8

CARD = ModelCard("acme/hash-8", "rev-1", "float32", WIDTH, 512, 2, "mean", True)

_AGES = 100_000

#: File beside the failpoints that holds, a line a call, how many texts were embedded.
EMBEDDED = "embedded"


class EngineStopped(ServerError):
    """Raised when the encoder was stopped before or while texts were embedded."""

    code = "engine_stopped"


class EngineFailed(ServerError):
    """Raised when the encoder was told to break for good."""

    code = "engine_failed"


def _hold() -> None:
    # PyDLL keeps the interpreter's lock during the call: no other thread of the process runs.
    ctypes.PyDLL(None).sleep(_AGES)


def _fail() -> None:
    raise EngineFailed("a test told the encoder to break")


#: What a text or a file in the failpoints' folder (`encode.hang`) can make the process do.
_TROUBLES = {
    "segv": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "exit": lambda: os._exit(1),
    "hang": lambda: time.sleep(_AGES),
    "hold": _hold,
    "fail": _fail,
}


def _appending(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)


class HashEncoder:
    """Embeds by hashing, one call after another as a device would; about four letters a token.

    `FAULTS_PAUSE` is how long each call takes in seconds, `FAULTS_PAUSE_PER_TEXT` how much longer for each text.
    """

    card = CARD
    #: It has no tokenizer.
    tokenizer_file = None

    def __init__(self) -> None:
        self._pause = float(os.environ.get("FAULTS_PAUSE", "0"))
        self._pause_per_text = float(os.environ.get("FAULTS_PAUSE_PER_TEXT", "0"))
        self._folder = Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None
        #: Where every call's number of texts is noted before it is done: a kill does not take it along.
        self._tally = (
            os.open(self._folder.parent / EMBEDDED, os.O_CREAT | os.O_APPEND | os.O_WRONLY) if self._folder else None
        )
        self._stopped = threading.Event()
        self._device = threading.Lock()
        self._counting = threading.Lock()
        self._waiting = 0
        self._last = time.monotonic()

    @property
    def progress(self) -> float:
        """When a call was last done, on `time.monotonic`'s clock; now while there is none."""
        return self._last if self._waiting else time.monotonic()

    def take_counts(self) -> collections.Counter[str]:
        """Return no counts: none of the engine's own defences are here."""
        return collections.Counter()

    def warm(self) -> None:
        """Do nothing: there is nothing to allocate."""

    def stop(self, wait: float = 0.0) -> None:
        """End running and later calls with `EngineStopped`."""
        self._stopped.set()

    def embed(self, texts: Sequence[str], options: JobOptions, urgent: bool = False) -> Embedded:
        """Embed texts; may be called by several threads at once.

        Args:
            texts: Any number of texts.
            options: How to embed them; `max_length` alone is looked at.
            urgent: Of no effect.

        Raises:
            EngineStopped: When the encoder is stopped.
        """
        self._count(1)
        try:
            with self._device:
                self._look()
                # A worker's own trial of the encoder is no text of anybody's.
                if self._tally is not None and list(texts) != [PROBE]:
                    os.write(self._tally, b"%d\n" % len(texts))
                if self._stopped.wait(self._pause + self._pause_per_text * len(texts)):
                    raise EngineStopped("The encoder is stopped.")
                return self._embed(texts, options.max_length or CARD.max_length)
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._counting:
            if change < 0 or not self._waiting:
                self._last = time.monotonic()
            self._waiting += change

    def _embed(self, texts: Sequence[str], most: int) -> Embedded:
        errors: dict[int, ItemError] = {}
        for place, text in enumerate(texts):
            if text.startswith("!"):
                self._obey(text[1:].split(" ", 1)[0], place, errors)
        matrix = vectors_of(texts)
        matrix[list(errors)] = np.nan
        lengths = np.fromiter((len(text) // 4 + 2 for text in texts), dtype=np.int32, count=len(texts))
        return Embedded(matrix, np.minimum(lengths, np.int32(most)), lengths, errors)

    def _obey(self, word: str, place: int, errors: dict[int, ItemError]) -> None:
        if word == "raise":
            errors[place] = ItemError("encoder_failed", "The encoder failed on this text.")
        elif word in _TROUBLES:
            _TROUBLES[word]()

    def _look(self) -> None:
        """Take the file that asks for trouble once, whatever the text; of several processes one succeeds."""
        if self._folder is None:
            return
        for word, act in _TROUBLES.items():
            wanted = self._folder / f"encode.{word}"
            try:
                wanted.rename(wanted.with_name(f"{wanted.name}.fired.{os.getpid()}"))
            except FileNotFoundError:
                continue
            act()


def vectors_of(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return unit vectors, shape (texts, 8), the same to the last bit on every machine and in every company."""
    digests = b"".join([blake2b(text.encode(), digest_size=2 * WIDTH).digest() for text in texts])
    # Odd whole numbers: never zero, and the sum of their squares is exact.
    odd = np.frombuffer(digests, dtype="<i2").astype(np.int64).reshape(-1, WIDTH) * 2 + 1
    return (odd / np.sqrt((odd * odd).sum(axis=1, keepdims=True))).astype(np.float32)
