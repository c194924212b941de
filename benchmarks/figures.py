"""What the files of results hold, asked for by what it means."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: The bare libraries of each precision, beside which the whole path is held, and our stacks.
BARE = {
    "float32": ("OpenVINO float32", "ONNX Runtime float32", "Infinity float32"),
    "bf16": ("OpenVINO bf16", "sentence-transformers bf16, best batch size"),
    "int8": ("OpenVINO int8",),
}
OURS = {"float32": "embedmill float32", "bf16": "embedmill auto", "int8": "embedmill int8"}

MINILM = "throughput-minilm"

#: What follows in the name of each file with results of a processor that multiplies bfloat16 in a unit of its own.
MATRIX_UNIT = "matrix-unit"

#: The workload that stands for mixed paragraphs where one number is asked for.
PARAGRAPHS = "W7"


class NotMeasured(Exception):
    """Raised when the results do not hold what is asked for."""


class Figures:
    """All files of results of one machine.

    Args:
        folder: Where they lie.
        machine: What follows in the name of each, after a hyphen; none where it is the machine that was first.
    """

    def __init__(self, folder: Path, machine: str = "") -> None:
        self.folder = folder
        self._ending = f"-{machine}" if machine else ""
        self._files = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}

    def of(self, machine: str) -> Figures:
        """Return the results of another machine."""
        return Figures(self.folder, machine)

    def section(self, file: str, key: str) -> dict[str, Any]:
        """Return one section of a file.

        Raises:
            NotMeasured: When it is not there.
        """
        try:
            section: dict[str, Any] = self._files[file + self._ending][key]
        except KeyError:
            raise NotMeasured from None
        return section

    def contender(self, file: str, workload: str, name: str) -> dict[str, Any]:
        """Return what was measured of one contender; `NotMeasured` when it had no part or no result."""
        found = self.section(file, workload)["contenders"].get(name)
        if found is None:
            raise NotMeasured
        kept: dict[str, Any] = found
        return kept

    def times(self, workload: str, name: str, file: str = MINILM) -> float:
        """Return how many times as fast as sentence-transformers a contender was."""
        return float(self.contender(file, workload, name)["times_the_reference"]["median"])

    def rate(self, name: str) -> float:
        """Return a contender's tokens a second on mixed paragraphs."""
        return float(self.contender(MINILM, PARAGRAPHS, name)["tokens_per_second"]["median"])

    def closeness(self, name: str, part: str, workloads: Sequence[str]) -> float:
        """Return the lowest mean or least cosine to the reference over some workloads."""
        found: list[float] = [self.contender(MINILM, key, name)["cosine"][part] for key in workloads]
        return min(found)

    def beside_bare(self, precision: str) -> float:
        """Return our whole path's rate as a share of the fastest bare library's of the same precision."""
        bare = []
        for name in BARE[precision]:
            try:
                bare.append(self.rate(name))
            except NotMeasured:
                continue
        if not bare:
            raise NotMeasured
        return float(self.rate(OURS[precision]) / max(bare))

    def outside_encoder(self, name: str) -> float:
        """Return which share of the whole path's processor time is spent outside the encoder.

        Inside is the forward pass's share, by the table of stages, of what the engine alone took in the same run.
        """
        stages = self.section("stages", f"minilm, {name}")["report"]["stages"]
        costs = {stage["name"]: stage["seconds"] / stage["tokens"] for stage in stages}
        inside = costs["forward"] / sum(costs.values())
        whole, engine = (
            self.contender(MINILM, PARAGRAPHS, one)["cpu_seconds_a_million_tokens"] for one in (name, "layer: engine")
        )
        return 1 - inside * float(engine) / float(whole)

    def submitted(self, door: str) -> float:
        """Return the texts a second of the largest submission through a door."""
        return float(self.section("submit", door)["runs"][-1]["texts_per_second"])

    def committed(self, kind: str, width: int) -> float:
        """Return the vectors a second committed in chunks of texts of about 50 tokens."""
        runs = self.section("stores", f"commit-{kind}")["runs"]
        (found,) = (run for run in runs if (run["width"], run["texts_a_chunk"]) == (width, 160))
        return float(found["vectors_a_second"]["median"])

    def read(self, kind: str, way: str) -> float:
        """Return the MB/s of reading a large job."""
        return float(self.section("stores", f"read-{kind}")["megabytes_a_second"][way]["median"])

    def latency(self, part: str, what: str, mark: str) -> float:
        """Return a mark of the times of one text, in milliseconds."""
        return float(self.section("latency", "auto")[part][what][mark])

    def difference(self, name: str) -> float:
        """Return the largest difference of a component to the reference's on mixed paragraphs."""
        return float(self.contender(MINILM, PARAGRAPHS, name)["largest_difference"])

    def in_company(self, name: str) -> float:
        """Return the least cosine of a text's vectors alone and in company."""
        return float(self.contender(MINILM, PARAGRAPHS, name)["alone_and_in_company"])

    def floor_share(self, name: str) -> float:
        """Return the engine's rate as a share of what matrix products alone would allow."""
        return float(self.section("stages", f"minilm, {name}")["floor_share"]["median"])

    def over(self, name: str, other: str) -> float:
        """Return a contender's rate on mixed paragraphs as a share of another's."""
        return self.rate(name) / self.rate(other)

    def beside_cp(self) -> float:
        """Return the rate of reading to a file as a share of `cp`'s, both synced."""
        return self.read("sqlite", "file") / self.read("sqlite", "cp, synced")

    def beyond_engine(self) -> float:
        """Return the milliseconds of one text through an idle stack beyond the engine's own."""
        return self.latency("idle", "urgent", "median") - self.latency("idle", "engine", "median")

    def apart(self) -> float:
        """Return how many times the cost of one job small jobs have."""
        return float(self.section("keys", "auto")["times"])
