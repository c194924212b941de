"""Why an engine as a whole embeds no more."""

from __future__ import annotations

import torch

from storage.contract.errors import ServerError

#: What is said where torch's allocator of device memory was not asked: by the CPU's, by CUDA of pinned memory and of
#: kernels that are loaded late, by its driver of segments that grow, by cuBLAS of its workspace.
_NO_ROOM = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


class EngineStopped(ServerError):
    """Raised when the engine was stopped before or while texts were embedded."""

    code = "engine_stopped"


class EngineFailed(ServerError):
    """Raised when the device or the encoder as a whole has failed; no text is to blame."""

    code = "engine_failed"


class NoVectors(EngineFailed):
    """Raised when not even a harmless text gets a usable vector: the weights or the device are broken."""


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether a device had no room for what it was to do.

    Args:
        error: What was raised.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _NO_ROOM)
