"""An engine set up as suits this machine: the library, what is measured, and the loaded network."""

from __future__ import annotations

import torch

from worker.engine.backends import choose_backend
from worker.engine.checkpoint import Checkpoint
from worker.engine.engine import Engine
from worker.engine.failures import EngineFailed, is_out_of_memory
from worker.engine.tuning import tune


def load_engine(
    checkpoint: Checkpoint,
    device: str = "cpu",
    dtype: str = "auto",
    token_budget: int | None = None,
    backend: str | None = None,
) -> tuple[Engine, str]:
    """Load an engine; what is not asked for is chosen by measuring.

    Args:
        checkpoint: The model.
        device: `cpu`, `cuda` or `cuda:n`.
        dtype: `auto`, `float32`, `bfloat16`, `float16` or `int8`.
        token_budget: Most tokens of a batch; None has it chosen.
        backend: `torch` or `openvino`; None takes torch, and OpenVINO for int8.

    Returns:
        The engine, and how it was set up and why, in a sentence.

    Raises:
        ModelBroken: When the checkpoint's files do not make a whole model.
        ModelRefused: When its network cannot be computed in int8.
        InvalidOption: When backend, dtype and device do not go together.
        MissingExtra: When OpenVINO is asked for and not installed.
        EngineFailed: When torch cannot use the device, or it has no memory for the network.
    """
    chosen = choose_backend(backend, dtype, device)
    _check_device(device)
    try:
        tuning = tune(checkpoint, device, dtype, token_budget, chosen)
        return Engine(checkpoint, device, backend=chosen, **tuning.options), str(tuning)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        remedy = "Free memory on it, or use a smaller model."
        raise EngineFailed(f"{device} has no memory for {checkpoint.name}.", remedy) from error


def _check_device(device: str) -> None:
    """Bring a number to a device: a torch without CUDA, a driver too old, a GPU that is lost or another's show here."""
    try:
        torch.zeros(1, device=device)
    except Exception as error:  # torch raises many kinds; whichever it is, no model would fare better
        why = str(error).partition("\n")[0].rstrip(".")
        remedy = "`embedmill doctor` looks at devices and at torch; --devices leaves one out."
        raise EngineFailed(f"{device} cannot be used here: {why}.", remedy) from error
