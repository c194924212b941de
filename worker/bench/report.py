"""What came of measuring a model, and the sentence that says what limits it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

#: The stage in which the encoder works.
FORWARD = "forward"

#: From this share of the floor on there is little left to win but in another number format or on another processor.
_NEAR = 0.6

_REMEDIES = {
    "tokenize": "Give the worker more CPU cores.",
    "form batches": "Longer chunks or texts would make it rarer.",
    "pool": "A larger token budget would make it rarer.",
    "write vectors": "Put the database on a faster disk.",
}


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the way from texts to kept vectors, measured on its own, one batch after another.

    Args:
        name: What it is.
        seconds: Of processor time; on a GPU of the device's time for `forward` and `pool`.
        tokens: How many tokens went through it in that time.
        lanes: How many of it run at the same time: CPU cores, or 1 on a GPU and for the database.
    """

    name: str
    seconds: float
    tokens: int
    lanes: int

    @property
    def microseconds_a_token(self) -> float:
        """What one token costs."""
        return self.seconds / self.tokens * 1e6

    @property
    def tokens_per_second(self) -> float:
        """How fast this stage alone would be."""
        return self.tokens / self.seconds * self.lanes


@dataclass(frozen=True, slots=True)
class Report:
    """What came of measuring a model.

    Args:
        model: Its name.
        revision: Its revision.
        device: Where it was computed.
        precision: `float32`, `half` or `int8`.
        setup: How the engine was set up, and why, in a sentence.
        cores: CPU cores in use.
        texts: Texts that the engine embedded.
        tokens: Tokens that it read of them, after the cut, special ones included.
        seconds: How long that took, on all cores, from texts to vectors.
        stages: What each stage costs.
        padding: Which share of all tokens in batches is padding, 0..1.
        flops_a_token: Operations of the matrix products that a token of these texts needs.
        matrix_rate: Operations a second of matrix products alone, measured in the same run.
    """

    model: str
    revision: str
    device: str
    precision: str
    setup: str
    cores: int
    texts: int
    tokens: int
    seconds: float
    stages: tuple[Stage, ...]
    padding: float
    flops_a_token: float
    matrix_rate: float

    @property
    def tokens_per_second(self) -> float:
        """The engine's rate on all cores: texts in, vectors out."""
        return self.tokens / self.seconds

    @property
    def floor(self) -> float:
        """Tokens a second that matrix products alone would allow."""
        return self.matrix_rate / self.flops_a_token

    @property
    def floor_share(self) -> float:
        """The engine's rate as a share of the floor."""
        return self.tokens_per_second / self.floor

    @property
    def slowest(self) -> Stage:
        """The stage that limits: on a CPU, where all share the cores, the dearest; on a GPU the slowest alone."""
        if self.device == "cpu":
            return max(self.stages, key=lambda stage: stage.microseconds_a_token)
        return min(self.stages, key=lambda stage: stage.tokens_per_second)

    @property
    def verdict(self) -> str:
        """One sentence or two: what limits, and what would help."""
        slowest = self.slowest
        if slowest.name != FORWARD:
            return f"`{slowest.name}` limits, not the encoder. {_REMEDIES[slowest.name]}"
        share = f"The encoder limits, at {self.floor_share:.0%} of what matrix products alone would allow"
        if self.floor_share >= _NEAR:
            return f"{share}: only a number format with fewer bits or a faster device would help much."
        return f"{share}: attention, norms and small batches take the rest; try another token budget or backend."

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a JSON object."""
        stages = [{**asdict(stage), "tokens_per_second": round(stage.tokens_per_second, 1)} for stage in self.stages]
        worked_out = {
            "tokens_per_second": round(self.tokens_per_second, 1),
            "texts_per_second": round(self.texts / self.seconds, 2),
            "floor_tokens_per_second": round(self.floor, 1),
            "floor_share": round(self.floor_share, 4),
            "limited_by": self.slowest.name,
            "verdict": self.verdict,
        }
        return {**asdict(self), "stages": stages, **worked_out}
