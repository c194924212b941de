"""sentence-transformers in a process of its own, stopped by the kernel whenever it is not asked."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.contract.models import DEFAULT_MODEL
from worker.engine.source import locate

_END_TIMEOUT = 20.0


class Reference:
    """The default model in sentence-transformers, everything at its defaults.

    A context manager: its process lives as long as the block.
    """

    def __enter__(self) -> Reference:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, str(locate(DEFAULT_MODEL, None).folder)), daemon=True
        )
        self._process.start()
        theirs.close()
        self.description: dict[str, Any] = self._connection.recv()
        self._pause()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.kill(self.pid, signal.SIGCONT)
        self._connection.close()  # which it takes for the end
        self._process.join(_END_TIMEOUT)
        self._process.kill()
        self._process.join()

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process.pid is not None
        return self._process.pid

    def encode(self, texts: list[str]) -> tuple[float, NDArray[np.float32]]:
        """Return how many seconds `encode` took, and the vectors; shape (texts, width)."""
        seconds, vectors = self._ask("encode", texts)
        return seconds, vectors

    def tokens(self, texts: list[str]) -> int:
        """Return how many tokens the encoder reads: all but padding, after the cut, special ones too."""
        return int(self._ask("tokens", texts))

    def _ask(self, question: str, texts: list[str]) -> Any:
        os.kill(self.pid, signal.SIGCONT)
        try:
            self._connection.send((question, texts))
            return self._connection.recv()
        finally:
            self._pause()

    def _pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)


def _serve(connection: Connection, folder: str) -> None:
    """Answer questions until the other side hangs up."""
    os.environ["TQDM_DISABLE"] = "1"  # the bar of loading weights
    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder)
    connection.send({"device": str(model.device), "threads": torch.get_num_threads()})
    while True:
        try:
            question, texts = connection.recv()
        except EOFError:
            return
        if question == "encode":
            start = time.perf_counter()
            vectors = model.encode(texts)
            connection.send((time.perf_counter() - start, vectors))
        else:
            cut = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length)
            connection.send(sum(len(ids) for ids in cut["input_ids"]))
