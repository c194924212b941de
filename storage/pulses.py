"""How a worker process is, as it tells with its heartbeat."""

from __future__ import annotations

from dataclasses import dataclass

#: Rates and shares are those of the last so many seconds.
WINDOW = 30.0

#: A worker that has not been heard of for so long, in seconds, has missed heartbeats: what it told is not so any more.
SILENT = 15.0


@dataclass(frozen=True, slots=True)
class Pulse:
    """One worker's last half minute; what is not known is None.

    Args:
        tokens_per_second: Tokens of committed texts.
        batch_fill: Tokens in batches, padding included, over what they had room for; None without a batch.
        padding_share: Padding over all tokens in batches; None without a batch.
        memory: Resident memory of the process, in bytes.
        gpu_memory: Memory in use on its GPU, by all processes, in bytes; None without a GPU.
        gpu_memory_total: Memory of that GPU, in bytes.
    """

    tokens_per_second: float | None = None
    batch_fill: float | None = None
    padding_share: float | None = None
    memory: int | None = None
    gpu_memory: int | None = None
    gpu_memory_total: int | None = None


#: Of a worker that tells nothing: one of a version before schema 0013, or one that has just begun.
UNTOLD = Pulse()
