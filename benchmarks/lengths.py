"""How long generated texts are: a distribution that draws numbers of words, or of characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Lengths(Protocol):
    """Draws how long texts are."""

    def draw(self, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """Return `count` lengths, each at least 1."""


@dataclass(frozen=True, slots=True)
class LogNormal:
    """As real texts are, between two ends.

    Args:
        median: Half of the texts are shorter.
        spread: Standard deviation of the logarithm.
        shortest: No text is shorter.
        longest: No text is longer.
    """

    median: float
    spread: float
    shortest: int
    longest: int

    def draw(self, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """Return `count` lengths."""
        drawn = generator.lognormal(np.log(self.median), self.spread, count).round()
        return drawn.clip(self.shortest, self.longest).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every length between two ends equally often.

    Args:
        shortest: No text is shorter.
        longest: No text is longer.
    """

    shortest: int
    longest: int

    def draw(self, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """Return `count` lengths."""
        return generator.integers(self.shortest, self.longest, count, endpoint=True)


@dataclass(frozen=True, slots=True)
class Mixture:
    """Texts of several kinds, mixed at random.

    Args:
        parts: The lengths of each kind.
        shares: Which share of the texts each kind has; together 1.
    """

    parts: Sequence[Lengths]
    shares: Sequence[float]

    def draw(self, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """Return `count` lengths."""
        drawn = np.stack([part.draw(count, generator) for part in self.parts])
        kinds = generator.choice(len(self.parts), count, p=self.shares)
        lengths: NDArray[np.int64] = drawn[kinds, np.arange(count)]
        return lengths
