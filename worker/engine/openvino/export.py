"""Exports a checkpoint's network to OpenVINO's own form, quantised or not, and measures what that costs.

Runs as a process of its own, so that a converter that crashes, or keeps memory, does so elsewhere than in a worker:
`python -m worker.engine.openvino.export MODEL REVISION KIND FOLDER`.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from worker.engine.checkpoint import Checkpoint, resolve
from worker.engine.openvino.installed import nncf, openvino
from worker.engine.openvino.samples import Nearness, Sample, Sampler, nearness, pooled
from worker.engine.openvino.texts import built_in
from worker.engine.transformersnetwork import load_network

MODEL, WEIGHTS, FACTS = "model.xml", "model.bin", "facts.json"

#: An export in float32 whose vectors are less near than this to the network's own is wrong.
_SAME = 0.99999


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an export.

    Args:
        vocabulary: How many ids have an embedding.
        padding: The id that fills up.
        nearness: By dtype: how near its vectors of the held-out texts are to those of float32.
        digests: SHA-256 of each file.
    """

    vocabulary: int
    padding: int
    nearness: dict[str, Nearness]
    digests: dict[str, str]

    @classmethod
    def read(cls, folder: Path) -> Facts:
        """Read the facts of a folder.

        Raises:
            OSError: When there are none.
            ValueError: When they are damaged.
        """
        data = json.loads((folder / FACTS).read_bytes())
        try:
            near = {str(dtype): Nearness(**each) for dtype, each in data["nearness"].items()}
            return cls(int(data["vocabulary"]), int(data["padding"]), near, dict(data["digests"]))
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{folder / FACTS} is not what an export writes") from error

    def write(self, folder: Path) -> None:
        """Write the facts into a folder."""
        (folder / FACTS).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


class _LastStates(nn.Module):
    """A network as a function of ids and mask alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network = network

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self._network(input_ids=ids, attention_mask=mask).last_hidden_state
        return states


def export(checkpoint: Checkpoint, kind: str, folder: Path) -> Facts:
    """Export a network into a folder.

    Args:
        checkpoint: Whose network.
        kind: `float`, to be computed in float32 or bfloat16, or `int8`.
        folder: Where to; it exists.

    Raises:
        RuntimeError: When OpenVINO would compute something else than the network.
    """
    core = openvino().Core()
    network = load_network(checkpoint.transformer, torch.float32)
    vocabulary = int(network.get_input_embeddings().num_embeddings)
    sampler, texts = Sampler(checkpoint, vocabulary), built_in()
    held_out = sampler.samples(texts.held_out)

    def vectors(states_of: Any) -> Tensor:
        return pooled(states_of, held_out, checkpoint.pooling)

    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing and of what is deprecated, each for its maker to heed
        last_states = _LastStates(network).eval()
        wanted = vectors(lambda batch: last_states(torch.from_numpy(batch.ids), torch.from_numpy(batch.mask)))
        model = _convert(last_states, held_out[-1])
        same = nearness(vectors(_computed(core, model, "f32")), wanted)
        if not same.least >= _SAME:
            raise RuntimeError(f"its vectors have a cosine of only {same.least:.5f} to the network's own")
        near = {}
        if kind == "int8":
            model = _quantized(model, sampler.samples(texts.calibration))
            near["int8"] = nearness(vectors(_computed(core, model, "f32")), wanted)
        elif "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            near["bfloat16"] = nearness(vectors(_computed(core, model, "bf16")), wanted)
    openvino().save_model(model, folder / MODEL, compress_to_fp16=False)
    facts = Facts(vocabulary, sampler.padding, near, {name: digest(folder / name) for name in (MODEL, WEIGHTS)})
    facts.write(folder)
    return facts


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _convert(network: nn.Module, example: Sample) -> Any:
    """Trace a network with some batch that has padding, so that the mask is not found to be superfluous."""
    ids, mask = torch.from_numpy(example.ids), torch.from_numpy(example.mask).clone()
    mask[0, -1] = 0
    free = openvino().PartialShape([-1, -1])
    return openvino().convert_model(network, example_input=(ids, mask), input=[free, free])


def _quantized(model: Any, calibration: list[Sample]) -> Any:
    library = nncf()
    return library.quantize(
        model,
        library.Dataset(calibration),
        model_type=library.ModelType.TRANSFORMER,
        subset_size=len(calibration),
    )


def _computed(core: Any, model: Any, hint: str) -> Any:
    request = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint}).create_infer_request()
    return lambda batch: torch.from_numpy(request.infer(list(batch))[0])


def _end_with_parent() -> None:
    while os.read(0, 1):  # nothing comes until the parent, which holds the other end, is gone
        pass
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _name, _revision, _kind, _folder = sys.argv[1:]
    export(resolve(_name, _revision), _kind, Path(_folder))
