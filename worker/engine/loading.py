"""An engine set up as suits this machine: the library, what is measured, and the loaded network."""

from __future__ import annotations

from worker.engine.backends import choose_backend
from worker.engine.checkpoint import Checkpoint
from worker.engine.engine import Engine
from worker.engine.tuning import tune


def load_engine(
    checkpoint: Checkpoint,
    device: str = "cpu",
    dtype: str = "auto",
    token_budget: int | None = None,
    backend: str | None = None,
) -> tuple[Engine, str]:
    """Load an engine; what is not asked for is chosen, on a CPU by measuring.

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
    """
    chosen = choose_backend(backend, dtype, device)
    tuning = tune(checkpoint, device, dtype, token_budget, chosen)
    return Engine(checkpoint, device, backend=chosen, **tuning.options), str(tuning)
