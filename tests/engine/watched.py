"""A real encoder that a test watches, and makes misbehave; texts and threads for tests of the engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tests.models import CHARACTERS, WORDS
from worker.engine.checkpoint import Checkpoint
from worker.engine.encoder import Encoder
from worker.engine.engine import Engine
from worker.engine.packed import Packed

TEXTS = [" ".join(WORDS[i % 40 : i % 40 + i % 23 + 1]) + CHARACTERS[i % 40] for i in range(150)]

#: Texts of one piece each, no two alike, and none of the words that tests let an encoder stumble over.
UNLIKE = [word for word in dict.fromkeys([*WORDS, *CHARACTERS]) if word not in ("thunder", "violin")]

Watch = Callable[[Tensor], Callable[[Tensor], Tensor] | None]


class Watched(Encoder):
    """A real encoder that shows every batch to a test before it does its work.

    Args:
        checkpoint: What to load.
        watch: Is given the ids of every batch, zeros at their ends, and may raise, or return what is to be done to the
            states.
        dtype: What it computes in.
    """

    def __init__(self, checkpoint: Checkpoint, watch: Watch, dtype: str = "float32") -> None:
        super().__init__(checkpoint, dtype=dtype)
        self.watch = watch
        self.batches: list[list[list[int]]] = []

    def forward(self, ids: Tensor, mask: Tensor | None, layer: int) -> Tensor:
        self.batches.append(ids.tolist())
        change = self.watch(ids)
        states = super().forward(ids, mask, layer)
        return change(states) if change else states

    def forward_flat(self, packed: Packed, layer: int) -> Tensor:
        ids = pad_sequence(packed.ids.split(packed.lengths), batch_first=True)
        mask = torch.arange(packed.longest) < torch.tensor(packed.lengths)[:, None]
        self.batches.append(ids.tolist())
        change = self.watch(ids)
        states = super().forward_flat(packed, layer)
        return change(pad_sequence(states.split(packed.lengths), batch_first=True))[mask] if change else states


#: Makes an engine over a watched encoder: `watch`, token budget, cores, dtype.
MakeWatched = Callable[..., tuple[Engine, Watched]]


def tokens_of(ids: Tensor) -> int:
    """Tokens of a batch, zeros at its ends not counted."""
    return int((ids != 0).sum())


def id_of(engine: Engine, word: str) -> int:
    return engine._tokenizer.describe(word, 8).ids[1]


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, and fail when it does not come."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come"
        time.sleep(0.01)
