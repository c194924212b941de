"""Words that are found again wherever they should not be: a text, a caller's ids, a key, a vector."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


def _rare(word: str) -> str:
    return f"{word}{secrets.token_hex(8)}"


@dataclass
class Canary:
    """What is sent, and nowhere else in the world.

    Args:
        key: An API key; its secret alone is looked for, the rest is the key's id.
        text: Part of every text.
        custom_id: Part of every caller's id.
        hook: Part of the address of a webhook, which may hold what only its receiver knows.
        vectors: What was embedded, once it is known.
    """

    key: str
    text: str = field(default_factory=lambda: _rare("canarytext"))
    custom_id: str = field(default_factory=lambda: _rare("perch"))
    hook: str = field(default_factory=lambda: _rare("cage"))
    vectors: list[NDArray[np.float32]] = field(default_factory=list)

    def song(self, size: int = 0) -> str:
        """Return a text, of at least so many bytes."""
        return f"The {self.text} sings.{' la' * (size // 3)}"

    @property
    def secret(self) -> bytes:
        """The part of the key that nobody may know."""
        return self.key.rpartition("_")[2].encode()

    def heard(self, told: bytes, *but: str) -> list[str]:
        """Return which of it is in something that was told.

        Args:
            told: A log, a body, a file.
            *but: Names of what may be in it: `text`, `custom_id`, `vector`.
        """
        words = {
            "text": [self.text.encode(), *_in_base64(self.text.encode())],
            "custom_id": [self.custom_id.encode(), *_in_base64(self.custom_id.encode())],
            "hook": [self.hook.encode()],
            "key": [self.secret],
            "vector": [form for vector in self.vectors for form in _forms(vector)],
        }
        return [name for name, forms in words.items() if name not in but and any(form in told for form in forms)]


def _in_base64(word: bytes) -> Iterator[bytes]:
    """Yield what base64 makes of a word's beginning, whatever stands before it: a message carries its body so."""
    for left_out in range(3):
        yield base64.b64encode(word[left_out:])[:16]


def _forms(vector: NDArray[np.float32]) -> Iterator[bytes]:
    """Yield the forms in which a vector's numbers could be told."""
    raw = vector.astype("<f4").tobytes()
    yield raw[:16]
    yield base64.b64encode(raw)[:24]
    for number in vector[:4]:
        yield str(np.float32(number)).encode()[:9]
        yield json.dumps(float(number)).encode()[:9]
