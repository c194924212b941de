"""Infinity's engine through its Python interface: its torch engine in float32, its default batches of 32."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import torch
from infinity_emb import AsyncEmbeddingEngine, EngineArgs
from numpy.typing import NDArray


class Program:
    """A started engine.

    Args:
        folder: The model's folder.
    """

    def __init__(self, folder: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._engine = AsyncEmbeddingEngine.from_args(
            EngineArgs(
                model_name_or_path=folder,
                engine="torch",
                device="cpu",
                dtype="float32",
                bettertransformer=False,
                trust_remote_code=False,
            )
        )
        self._loop.run_until_complete(self._engine.astart())

    @property
    def description(self) -> dict[str, Any]:
        """What results say of it."""
        from importlib.metadata import version

        versions = {name: version(name) for name in ("infinity-emb", "transformers", "torch")}
        return {"threads": torch.get_num_threads(), **versions}

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Return the vectors, shape (texts, width)."""
        vectors, _ = self._loop.run_until_complete(self._engine.embed(sentences=texts))
        return np.asarray(vectors, np.float32)
