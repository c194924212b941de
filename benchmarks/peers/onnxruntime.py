"""Plain ONNX Runtime in float32: the model exported once, its graph fused as BERT's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from benchmarks.peers.bare import Batches, Pooled, example, threads


class Program:
    """A session.

    Args:
        folder: The model's folder.
        cache: Where the exported model is kept.
    """

    def __init__(self, folder: str, cache: str) -> None:
        self._batches = Batches(Path(folder))
        exported = Path(cache) / "fused.onnx"
        if not exported.exists():
            _export(Path(folder), exported)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads()
        self._session = onnxruntime.InferenceSession(str(exported), options, providers=["CPUExecutionProvider"])

    @property
    def description(self) -> dict[str, Any]:
        """What results say of it."""
        return {
            "threads": self._session.get_session_options().intra_op_num_threads,
            "onnxruntime": onnxruntime.__version__,
        }

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Return the vectors, shape (texts, width)."""
        vectors: NDArray[np.float32] | None = None
        for rows, ids, mask in self._batches.of(texts):
            found = self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
            if vectors is None:
                vectors = np.empty((len(texts), found.shape[1]), np.float32)
            vectors[rows] = found
        assert vectors is not None
        return vectors


def _export(folder: Path, target: Path) -> None:
    from onnxruntime.transformers.optimizer import optimize_model

    module, inputs = Pooled(folder), example()
    config: Any = module._network.config
    raw = target.with_name("raw.onnx")
    with torch.no_grad():
        torch.onnx.export(
            module,
            (inputs["input_ids"], inputs["attention_mask"]),
            raw,
            input_names=list(inputs),
            output_names=["vectors"],
            dynamic_axes={name: {0: "texts", 1: "tokens"} for name in inputs} | {"vectors": {0: "texts"}},
            dynamo=False,
        )
    fused = optimize_model(
        str(raw), model_type="bert", num_heads=config.num_attention_heads, hidden_size=config.hidden_size
    )
    fused.save_model_to_file(str(target))
    raw.unlink()
