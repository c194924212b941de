"""What a worker needs of an engine: texts in, vectors out. `worker/engine` is one; tests have others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from storage.contract.models import ModelCard
from storage.contract.options import JobOptions
from storage.contract.tokens import TokenizerFile
from storage.outcomes import ItemError


class EmbeddedLike(Protocol):
    """What an engine returns for n texts."""

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Shape (n, width), NaN rows where there is an error; without pooling, the states of all tokens."""

    @property
    def tokens(self) -> NDArray[np.int32]:
        """Tokens the encoder read, shape (n,)."""

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Tokens before the cut, shape (n,)."""

    @property
    def errors(self) -> dict[int, ItemError]:
        """By place: why a text has no vector."""


class EngineLike(Protocol):
    """Texts in, vectors out."""

    @property
    def card(self) -> ModelCard:
        """The model identity it serves."""

    @property
    def tokenizer_file(self) -> TokenizerFile | None:
        """Its tokenizer, for those who have no model; None when it has none."""

    def embed(self, texts: Sequence[str], options: JobOptions, urgent: bool = False) -> EmbeddedLike:
        """Embed texts; one outcome each."""
