"""sentence-transformers: its defaults, or another number format, or the batch size that suits it best."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

#: Batch sizes that are tried to find the best.
_BATCH_SIZES = (16, 32, 64, 128)

_DEFAULT_BATCH_SIZE = 32


class Program:
    """A loaded model; batches of 32 until `tune` finds a better size.

    Args:
        folder: The model's folder.
        dtype: `float32` or `bfloat16`.
    """

    def __init__(self, folder: str, dtype: str = "float32") -> None:
        kwargs = {} if dtype == "float32" else {"dtype": getattr(torch, dtype)}
        self._model = SentenceTransformer(folder, device="cpu", model_kwargs=kwargs)
        self._batch_size = _DEFAULT_BATCH_SIZE

    @property
    def description(self) -> dict[str, Any]:
        """What results say of it."""
        return {"threads": torch.get_num_threads(), "device": str(self._model.device), "batch_size": self._batch_size}

    def tune(self, texts: list[str]) -> dict[str, Any]:
        """Take the batch size that is fastest on some texts, twice each; return the seconds of all."""
        seconds = dict.fromkeys(_BATCH_SIZES, 0.0)
        for size in (*_BATCH_SIZES, *reversed(_BATCH_SIZES)):
            start = time.perf_counter()
            self._model.encode(texts, batch_size=size)
            seconds[size] += time.perf_counter() - start
        self._batch_size = min(seconds, key=lambda size: seconds[size])
        return {"batch_size": self._batch_size, "seconds": {str(size): round(s, 3) for size, s in seconds.items()}}

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Return the vectors, shape (texts, width)."""
        return np.asarray(self._model.encode(texts, batch_size=self._batch_size), np.float32)

    def encode_singly(self, texts: list[str]) -> NDArray[np.float32]:
        """Return the vectors, each text embedded for itself."""
        return np.concatenate([self.encode([text]) for text in texts])

    def tokens(self, texts: list[str]) -> int:
        """Return how many tokens the encoder reads: all but padding, after the cut, special ones too."""
        cut = self._model.tokenizer(texts, truncation=True, max_length=self._model.max_seq_length)
        return sum(len(ids) for ids in cut["input_ids"])
