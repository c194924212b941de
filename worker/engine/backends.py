"""Which library computes the encoder: torch always, OpenVINO where it is installed and asked for; imports neither."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING

from storage.contract.errors import InvalidOption, MissingExtra
from worker.engine.checkpoint import Checkpoint

if TYPE_CHECKING:
    from worker.engine.encoderlike import EncoderLike

BACKENDS = ("torch", "openvino")

_log = logging.getLogger(__name__)


def choose_backend(asked: str | None, dtype: str, device: str) -> str:
    """Return which library computes.

    Args:
        asked: `torch`, `openvino`, or None: torch, and OpenVINO for int8, which torch does not compute here.
        dtype: What is computed in.
        device: `cpu`, `cuda` or `cuda:n`.

    Raises:
        InvalidOption: When backend, dtype and device do not go together.
        MissingExtra: When OpenVINO is not installed.
    """
    if asked not in (None, *BACKENDS):
        raise InvalidOption(f"backend must be one of {', '.join(BACKENDS)}, not {asked!r}.")
    if asked == "torch" and dtype == "int8":
        raise InvalidOption("The torch backend does not compute in int8.", "Use --backend openvino, or another dtype.")
    if asked != "openvino" and dtype != "int8":
        return "torch"
    if device != "cpu":
        raise InvalidOption(f"OpenVINO computes on the CPU here, not on {device}.", "Add --devices cpu.")
    if dtype == "float16":
        raise InvalidOption("OpenVINO does not compute in float16 on a CPU.", "Use auto, float32, bfloat16 or int8.")
    if any(find_spec(name) is None for name in ("openvino", "nncf")):
        raise MissingExtra("The OpenVINO backend, which alone computes in int8,", "openvino")
    return "openvino"


def load_encoder(
    checkpoint: Checkpoint, device: str = "cpu", dtype: str = "auto", backend: str | None = None, cores: int = 1
) -> EncoderLike:
    """Load a checkpoint's network.

    Args:
        checkpoint: What to load; its files only, never the hub.
        device: `cpu`, `cuda` or `cuda:n`.
        dtype: `auto`, `float32`, `bfloat16`, `float16` or `int8`.
        backend: As for `choose_backend`; a network that OpenVINO cannot compute is computed by torch, but for int8.
        cores: How many threads call the encoder at a time, each with a core of its own.

    Raises:
        ModelBroken: When the files do not make a whole network.
        ModelRefused: When the network cannot be computed in int8.
        InvalidOption: When backend, dtype and device do not go together.
        MissingExtra: When OpenVINO is not installed.
    """
    from worker.engine.encoder import Encoder

    if choose_backend(backend, dtype, device) == "torch":
        return Encoder(checkpoint, device, dtype)
    from worker.engine.openvino.cache import NotExportable
    from worker.engine.openvino.encoder import OpenVinoEncoder

    try:
        return OpenVinoEncoder(checkpoint, dtype, cores)
    except NotExportable as error:
        if dtype == "int8":
            raise
        _log.warning("torch computes %s: %s", checkpoint.name, error.message)
        return Encoder(checkpoint, device, dtype)
