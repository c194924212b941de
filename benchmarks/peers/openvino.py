"""Plain OpenVINO: the model exported once, float32, bfloat16 or statically quantised to int8."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from numpy.typing import NDArray

from benchmarks.peers.bare import Batches, Pooled, example, threads

#: What the processor computes in, by format asked for.
_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}


class Program:
    """A compiled model.

    Args:
        folder: The model's folder.
        dtype: `float32`, `bfloat16` or `int8`.
        cache: Where exported models are kept.
        calibration: Texts that int8 is calibrated on.
    """

    def __init__(self, folder: str, dtype: str, cache: str, calibration: list[str]) -> None:
        self._batches = Batches(Path(folder))
        exported = Path(cache) / f"openvino-{'int8' if dtype == 'int8' else 'float'}.xml"
        if not exported.exists():
            model = _exported(Path(folder))
            if dtype == "int8":
                model = _quantised(model, self._batches, calibration)
            openvino.save_model(model, exported, compress_to_fp16=False)
        self._dtype = dtype
        self._model = openvino.Core().compile_model(
            exported, "CPU", {"INFERENCE_PRECISION_HINT": _HINTS[dtype], "INFERENCE_NUM_THREADS": threads()}
        )

    @property
    def description(self) -> dict[str, Any]:
        """What results say of it."""
        precision = self._model.get_property("INFERENCE_PRECISION_HINT").to_string()
        return {
            "threads": int(self._model.get_property("INFERENCE_NUM_THREADS")),
            "precision": "static int8" if self._dtype == "int8" else precision,
            "openvino": openvino.__version__.partition("-")[0],
        }

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Return the vectors, shape (texts, width)."""
        vectors: NDArray[np.float32] | None = None
        for rows, ids, mask in self._batches.of(texts):
            found = self._model({"input_ids": ids, "attention_mask": mask})[0]
            if vectors is None:
                vectors = np.empty((len(texts), found.shape[1]), np.float32)
            vectors[rows] = found
        assert vectors is not None
        return vectors


def _exported(folder: Path) -> Any:
    with torch.no_grad():
        model = openvino.convert_model(Pooled(folder), example_input=example())
    for place, name in zip(model.inputs, ("input_ids", "attention_mask"), strict=True):
        place.get_node().set_partial_shape(openvino.PartialShape([-1, -1]))
        place.get_tensor().set_names({name})
    model.validate_nodes_and_infer_types()
    return model


def _quantised(model: Any, batches: Batches, texts: list[str]) -> Any:
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    single = [next(batches.of([text])) for text in texts]
    data = nncf.Dataset([{"input_ids": ids, "attention_mask": mask} for _, ids, mask in single])
    return nncf.quantize(model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(texts))
