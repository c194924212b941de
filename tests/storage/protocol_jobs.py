"""Jobs and chunks as the model of the protocol keeps them on paper."""

from __future__ import annotations

from dataclasses import dataclass, field

OPEN_CHUNK = ("pending", "dispatched", "leased")

#: What became of one item: a vector's value, the code of an error, or nothing.
Outcome = float | str | None

#: Job, chunk and token.
Attempt = tuple[str, int, int]


@dataclass
class Chunk:
    """One chunk; `row` is what is written of it, by the attempt `written`."""

    job: str
    number: int
    first: int
    size: int
    invalid: frozenset[int]
    state: str = "pending"
    token: int = 0
    claims: int = 0
    crashes: int = 0
    owner: str | None = None
    silent: bool = False
    resting: bool = False
    row: list[Outcome] | None = None
    written: int | None = None
    succeeded: int = 0
    failed: int = 0

    def count(self) -> None:
        """Count what the row says."""
        row = self.row or []
        self.succeeded = sum(isinstance(outcome, float) for outcome in row)
        self.failed = len(self.invalid) if self.row is None else sum(isinstance(outcome, str) for outcome in row)

    def wait(self, resting: bool = False) -> None:
        """Go back to those that wait."""
        self.state, self.owner, self.silent, self.resting = "pending", None, False, resting

    def end(self, row: list[Outcome]) -> None:
        """Be done with these outcomes."""
        self.state, self.owner, self.silent, self.row, self.written = "done", None, False, row, self.token
        self.count()

    def todo(self) -> list[int]:
        """Return the places that an attempt has to embed."""
        kept = self.row or [None] * self.size
        return [i for i in range(self.size) if i not in self.invalid and not isinstance(kept[i], float)]

    def filled(self, new: dict[int, Outcome]) -> list[Outcome]:
        """Return a whole row: what is kept, and the new outcomes in the places still to do."""
        kept = self.row or ["invalid_item" if i in self.invalid else None for i in range(self.size)]
        return [new.get(i, kept[i]) for i in range(self.size)]


@dataclass
class Job:
    """One job."""

    total: int
    state: str = "accepting"
    key: str | None = None
    generation: int = 0
    over: bool = False
    deleted: bool = False
    chunks: dict[int, Chunk] = field(default_factory=dict)

    def unsettled(self) -> list[Chunk]:
        """Return the chunks that have no outcome yet."""
        return [chunk for chunk in self.chunks.values() if chunk.state in OPEN_CHUNK]
