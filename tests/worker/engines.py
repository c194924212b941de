"""An engine with state instead of a model: a text's vector is a hash of it, and it can be told to misbehave."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from storage.contract.errors import ServerError
from storage.contract.models import ModelCard
from storage.contract.options import NO_POOLING, JobOptions
from storage.outcomes import ItemError

WIDTH = 8

CARD = ModelCard("acme/hash-8", "rev-1", "float32", WIDTH, 512, 2, "mean", True, {"query": "query: "})


@dataclass(frozen=True)
class Embedded:
    """What came of texts."""

    vectors: NDArray[np.float32]
    tokens: NDArray[np.int32]
    lengths: NDArray[np.int32]
    errors: dict[int, ItemError] = field(default_factory=dict)


class Trouble(ServerError):
    """Raised by the engine when it was told to."""

    def __init__(self, code: str) -> None:
        super().__init__("told to misbehave")
        self.code = code  # type: ignore[misc]


def vector_of(text: str) -> NDArray[np.float32]:
    """Return the vector of a text: unit length, the same on every machine."""
    raw = np.frombuffer(blake2b(text.encode(), digest_size=WIDTH * 4).digest(), dtype="<u4")
    vector = raw.astype(np.float64) / 2**32 - 0.5
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class HashEngine:
    """Embeds by hashing; one token a character, read up to the job's limit.

    Args:
        failing: Texts that get an error of their own while they are in this set.
        trouble: Raised by the next call, then forgotten.
    """

    def __init__(self) -> None:
        self.card = CARD
        #: It has no tokenizer.
        self.tokenizer_file = None
        self.calls: list[list[str]] = []
        self.failing: set[str] = set()
        self.trouble: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        #: Only calls with one of these texts stop at the gate; None: all.
        self.gated: set[str] | None = None

    def embed(self, texts: Sequence[str], options: JobOptions, urgent: bool = False) -> Embedded:
        """Embed texts, once the gate is open."""
        if self.gated is None or self.gated & set(texts):
            self.entered.set()
            assert self.gate.wait(100)
        self.calls.append(list(texts))
        if self.trouble is not None:
            trouble, self.trouble = self.trouble, None
            raise trouble
        width = options.dimensions or WIDTH
        matrix = np.full((len(texts), width), np.nan, dtype=np.float32)
        errors: dict[int, ItemError] = {}
        for i, text in enumerate(texts):
            if text in self.failing:
                errors[i] = ItemError("encoder_failed", "told to fail")
            else:
                matrix[i] = vector_of(text)[:width]
        lengths = np.array([len(text) for text in texts], dtype=np.int32)
        tokens = np.minimum(lengths, options.max_length or 512)
        if options.pooling == NO_POOLING:
            # A token's state is the vector of its text up to there.
            read = [text[:count] for i, (text, count) in enumerate(zip(texts, tokens, strict=True)) if i not in errors]
            matrix = np.array([vector_of(text[: end + 1]) for text in read for end in range(len(text))], np.float32)
            matrix = matrix.reshape(-1, WIDTH)
        return Embedded(matrix, tokens, lengths, errors)
