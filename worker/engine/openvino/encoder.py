"""The loaded network computed by OpenVINO: on a CPU, one stream of one thread for each core."""

from __future__ import annotations

import logging
import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor

from storage.contract.errors import InvalidOption
from worker.engine.batching import Packing, stepped_shape
from worker.engine.checkpoint import Checkpoint
from worker.engine.encoder import Encoder, load_head
from worker.engine.openvino.cache import exported
from worker.engine.openvino.export import MODEL, Facts
from worker.engine.openvino.installed import openvino
from worker.engine.packed import Packed

_log = logging.getLogger(__name__)

#: Cosines to float32, on the mean and at least, from which `auto` takes bfloat16.
_NEAR_ENOUGH = 0.9999, 0.9998


class OpenVinoEncoder:
    """A checkpoint's network; several threads may use it, each of which has a core.

    Args:
        checkpoint: What to load; its files only, never the hub.
        dtype: `auto`, `float32`, `bfloat16` or `int8`.
        cores: How many threads use it at a time.

    Raises:
        NotExportable: When OpenVINO cannot compute this network.
        ModelBroken: When the files do not make a whole network.
        InvalidOption: When the dtype is none of these.
    """

    def __init__(self, checkpoint: Checkpoint, dtype: str = "auto", cores: int = 1) -> None:
        if dtype not in ("auto", "float32", "bfloat16", "int8"):
            raise InvalidOption(f"dtype must be one of auto, float32, bfloat16, int8 for OpenVINO, not {dtype!r}.")
        self.device = torch.device("cpu")
        self._checkpoint = checkpoint
        core = openvino().Core()
        capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        processor = f"{core.get_property('CPU', 'FULL_DEVICE_NAME')} {sorted(capabilities)}"
        kind = "int8" if dtype == "int8" else "float"
        with exported(checkpoint, kind, processor) as (folder, facts):
            self.dtype = _chosen(facts) if dtype == "auto" else dtype
            settings = {
                "INFERENCE_PRECISION_HINT": "bf16" if self.dtype == "bfloat16" else "f32",
                "NUM_STREAMS": cores,
                "INFERENCE_NUM_THREADS": cores,
                # Other processes may compute on the same cores, and would be pinned to the same first ones.
                "ENABLE_CPU_PINNING": False,
            }
            self._network: Any = core.compile_model(folder / MODEL, "CPU", settings)
        if self.dtype in facts.nearness:
            near = facts.nearness[self.dtype]
            told = "%s in %s: cosine to float32 on held-out texts %.5f on average, %.5f at least"
            _log.info(told, checkpoint.name, self.dtype, near.mean, near.least)
        self.vocabulary = facts.vocabulary
        self._padding = facts.padding
        self._longest = checkpoint.max_length
        self._head = load_head(checkpoint)
        self._own = threading.local()
        self._layers: Encoder | None = None
        self._loading = threading.Lock()

    @property
    def precision(self) -> str:
        """The class whose vectors may be mixed in one job: `float32`, `half` or `int8`."""
        return "half" if self.dtype == "bfloat16" else self.dtype

    @property
    def packing(self) -> Packing:
        """Stepped: OpenVINO prepares itself for every size that it has not met, which takes time and memory."""
        return Packing.STEPPED

    def forward_flat(self, packed: Packed, layer: int) -> Tensor:
        """Return the token states of a batch, in float32; see `EncoderLike`."""
        if layer != -1 and self._with_layers().packing is not Packing.PADDED:
            return self._with_layers().forward_flat(packed, layer)
        lengths = np.array(packed.lengths)
        texts, tokens = stepped_shape(len(lengths), packed.longest, self._longest)
        present = np.arange(tokens) < lengths[:, None]
        ids = np.full((texts, tokens), self._padding, np.int64)
        ids[: len(lengths)][present] = packed.ids.numpy()
        mask = np.ones((texts, tokens), bool)  # so that texts that only fill up have tokens too
        mask[: len(lengths)] = present
        states = self.forward(torch.from_numpy(ids), torch.from_numpy(mask), layer)
        return states.flatten(0, 1).index_select(0, torch.from_numpy(np.flatnonzero(present)))

    def forward(self, ids: Tensor, mask: Tensor | None, layer: int) -> Tensor:
        """Return the token states of one batch, in float32, until the same thread asks again; see `EncoderLike`."""
        if layer != -1:
            return self._with_layers().forward(ids, mask, layer)
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._network.create_infer_request()
        attention = torch.ones_like(ids) if mask is None else mask.long()
        found = request.infer([ids.numpy(), attention.numpy()], share_inputs=True, share_outputs=True)
        return torch.from_numpy(found[0])

    def project(self, pooled: Tensor) -> Tensor:
        """Send pooled vectors through what follows in the checkpoint; see `EncoderLike`."""
        projected: Tensor = self._head(pooled)
        return projected

    def _with_layers(self) -> Encoder:
        """Return torch's network, which alone shows the states of every layer."""
        with self._loading:
            if self._layers is None:
                _log.warning("OpenVINO computes the last layer only: torch computes the others, in float32")
                self._layers = Encoder(self._checkpoint, "cpu", "float32")
            return self._layers


def _chosen(facts: Facts) -> str:
    near = facts.nearness.get("bfloat16")
    if near is None:
        _log.info("computing in float32: this processor has no bfloat16")
        return "float32"
    mean, least = _NEAR_ENOUGH
    if near.mean >= mean and near.least >= least:
        return "bfloat16"
    _log.info("computing in float32: bfloat16 has a cosine to it of %.5f, at least %.5f", near.mean, near.least)
    return "float32"
