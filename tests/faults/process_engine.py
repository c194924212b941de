"""`python -m tests.faults.process_engine SLOT DEVICE ID`: the worker process with the real engine on a bad device.

Words of a text say what is wrong: on `RAISES` the encoder fails, of `MELTS` it makes NaN, and a batch of texts with
`SWELLS` fits into the device's memory only while it has no more than `MEMORY` tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from worker.process import Process, main

RAISES, MELTS, SWELLS = "thunder", "violin", "cathedral"

#: In tokens; less than a third of a CPU's batch, so that the budget has to be halved twice.
MEMORY = 300


class EngineProcess(Process):
    """A worker process with a real model."""

    def _load(self) -> Any:
        # Imports torch, after the supervisor was told that this process lives.
        from tests.engine.watched import Watched
        from worker.engine.checkpoint import resolve
        from worker.engine.engine import Engine
        from worker.engine.tokenizing import Tokenizer

        checkpoint = resolve(self._settings.model)
        tokenizer = Tokenizer(checkpoint)
        watch = bad_device(*(tokenizer.describe(word, 8).ids[1] for word in (RAISES, MELTS, SWELLS)))
        engine = Engine(checkpoint, encoder=Watched(checkpoint, watch))
        engine.warm()
        return engine


def bad_device(raises: int, melts: int, swells: int) -> Callable[[Any], Callable[[Any], Any] | None]:
    """Return what goes wrong with a batch, given its ids and those of the words.

    Args:
        raises: Id of `RAISES`.
        melts: Id of `MELTS`.
        swells: Id of `SWELLS`.
    """
    import torch

    def watch(ids: Any) -> Callable[[Any], Any] | None:
        if (ids == raises).any():
            raise RuntimeError("the encoder cannot stand this text")
        if (ids == swells).any() and ids.numel() > MEMORY:
            raise torch.OutOfMemoryError("the device is full")
        melting = (ids == melts).any(1)
        return (lambda states: states.masked_fill(melting[:, None, None], torch.nan)) if melting.any() else None

    return watch


if __name__ == "__main__":
    main(EngineProcess)
