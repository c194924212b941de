"""The field of contenders: who takes part in which workload, started, or named as left out with the reason."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contenders import Contender, PeerContender, WholePath
from benchmarks.models import export_folder
from benchmarks.peers.peer import Peer, PeerMissing, Recipe
from benchmarks.stack import StackRefused, own_stack
from benchmarks.texts import TextSource
from benchmarks.words import Words
from benchmarks.workloads import WORKLOADS
from embedmill import Client
from worker.engine.processor import this_processor
from worker.supervisor import ALLOCATOR

_ROOT = Path(__file__).resolve().parents[1]

#: Infinity needs an older transformers than ours: an environment of its own, which `make bench` makes.
_INFINITY = _ROOT / ".venv-infinity" / "bin" / "python"

#: Texts that plain OpenVINO's int8 is calibrated on, none of which is measured.
_CALIBRATION_TEXTS = 200
_CALIBRATION_SEED = 1_000_003

#: Our stacks, by the options of `embedmill up` that make them.
STACKS = {
    "embedmill float32": ("--dtype", "float32"),
    "embedmill auto": ("--dtype", "auto"),
    "embedmill openvino": ("--backend", "openvino"),
    "embedmill int8": ("--backend", "openvino", "--dtype", "int8"),
}

#: Why half precision has no part where it is emulated: one set would take minutes.
_NO_BFLOAT16 = "this processor multiplies no bfloat16"

REFERENCE = "sentence-transformers"
BEST_BATCH = f"{REFERENCE}, best batch size"
BF16 = f"{REFERENCE} bf16, best batch size"


@dataclass
class Field:
    """Everybody who is measured.

    Args:
        reference: sentence-transformers with its defaults; its own vectors are what all others' are compared with.
        contenders: All, the reference first.
        left_out: Who is not there, and why.
    """

    reference: Peer
    contenders: list[Contender] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    tuned: dict[str, Peer] = field(default_factory=dict)

    def count_tokens(self, texts: list[str]) -> int:
        """Return how many tokens the encoder reads of texts, after the cut."""
        return int(self.reference.ask("tokens", texts)[1])

    def tune(self, texts: list[str], names: list[str]) -> dict[str, Any]:
        """Give those of some contenders who have a best batch size the one that is best on some texts."""
        return {name: peer.ask("tune", texts)[1] for name, peer in self.tuned.items() if name in names}


def start(stack: ExitStack, folder: Path, words: Words, wanted: list[str] | None) -> Field:
    """Start everybody.

    Args:
        stack: Ends them.
        folder: The model's folder.
        words: What calibration texts are made of.
        wanted: Only contenders whose names hold one of these words, and the reference; None: all.
    """
    reference = stack.enter_context(Peer(Recipe(REFERENCE, "sentence_transformers"), folder))
    found = Field(reference, [PeerContender(REFERENCE, reference, "float32")])
    multiplies_half = this_processor().multiplies_bfloat16
    for recipe, precision in _peers(folder, words):
        if precision == "half" and not multiplies_half:
            found.left_out[recipe.name] = _NO_BFLOAT16
        elif _is_wanted(recipe.name, wanted):
            _add_peer(stack, found, recipe, precision, folder)
    if _is_wanted("layers", wanted):
        _add_layers(stack, found, folder)
    for name, options in STACKS.items():
        if _is_wanted(name, wanted):
            _add_stack(stack, found, name, options, folder)
    return found


def _peers(folder: Path, words: Words) -> list[tuple[Recipe, str]]:
    cache = {"cache": str(export_folder(folder))}
    source = TextSource(words.spaced, seed=_CALIBRATION_SEED)
    calibration = {"calibration": source.take(WORKLOADS["W1"].lengths, _CALIBRATION_TEXTS)}
    openvino = [
        (Recipe(f"OpenVINO {name}", "openvino", {"dtype": dtype} | cache | calibration), precision)
        for name, dtype, precision in (
            ("float32", "float32", "float32"),
            ("bf16", "bfloat16", "half"),
            ("int8", "int8", "int8"),
        )
    ]
    return [
        (Recipe(BEST_BATCH, "sentence_transformers"), "float32"),
        (Recipe(BF16, "sentence_transformers", {"dtype": "bfloat16"}), "half"),
        *openvino,
        (Recipe("ONNX Runtime float32", "onnxruntime", cache), "float32"),
        (Recipe("Infinity float32", "infinity", python=_INFINITY), "float32"),
    ]


def _add_peer(stack: ExitStack, found: Field, recipe: Recipe, precision: str, folder: Path) -> None:
    try:
        peer = stack.enter_context(Peer(recipe, folder))
    except PeerMissing as error:
        found.left_out[recipe.name] = str(error)
        return
    found.contenders.append(PeerContender(recipe.name, peer, precision))
    if recipe.name in (BEST_BATCH, BF16):
        found.tuned[recipe.name] = peer


def _add_layers(stack: ExitStack, found: Field, folder: Path) -> None:
    recipe = Recipe("layers", "mill", {"dtype": "auto"}, environment={"GLIBC_TUNABLES": ALLOCATOR})
    peer = stack.enter_context(Peer(recipe, folder))
    precision = str(peer.description["precision"])
    found.contenders += [
        PeerContender("layer: tokenize", peer, precision, "tokenize"),
        PeerContender("layer: engine", peer, precision),
        PeerContender("layer: engine and storage", peer, precision, "store", fetch="stored"),
    ]


def _add_stack(stack: ExitStack, found: Field, name: str, options: tuple[str, ...], folder: Path) -> None:
    try:
        running = stack.enter_context(own_stack([*options, "--model", str(folder)]))
    except StackRefused as error:
        found.left_out[name] = str(error)
        return
    client = stack.enter_context(Client(data_dir=running.data_dir, model=str(folder)))
    found.contenders.append(WholePath(name, running, client))


def _is_wanted(name: str, wanted: list[str] | None) -> bool:
    return wanted is None or any(word in name for word in wanted)
