"""Texts to measure with: made of real words, with the lengths that are asked for, the same in every run."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "sentences.jsonl"


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long texts are, in words: log-normal, as real ones are, between two ends.

    Args:
        median: Half of the texts are shorter.
        spread: Standard deviation of the logarithm; 0 makes all texts equally long.
        shortest: No text is shorter.
        longest: No text is longer.
    """

    median: float
    spread: float
    shortest: int
    longest: int

    def draw(self, count: int, generator: np.random.Generator) -> list[int]:
        """Return `count` lengths."""
        drawn = generator.lognormal(np.log(self.median), self.spread, count).round()
        return [int(length) for length in drawn.clip(self.shortest, self.longest)]

    @property
    def mean(self) -> float:
        """Words of an average text, from a large sample."""
        return float(np.mean(self.draw(100_000, np.random.default_rng(0))))


#: What is measured: sentences, paragraphs, and everything from a title to a page that must be cut.
LENGTHS = {
    "sentences": Lengths(median=14, spread=0.45, shortest=3, longest=50),
    "paragraphs": Lengths(median=110, spread=0.3, shortest=50, longest=200),
    "mixed": Lengths(median=30, spread=1.0, shortest=2, longest=400),
}


class TextSource:
    """Gives out texts cut from running sentences, never one twice.

    Args:
        sentences: What the texts are made of.
        seed: The same seed gives the same texts.
    """

    def __init__(self, sentences: Sequence[str], seed: int = 7) -> None:
        self._generator = np.random.default_rng(seed)
        self._words = self._running_words([sentence.split() for sentence in sentences])
        self._given: set[str] = set()

    def take(self, lengths: Lengths, count: int) -> list[str]:
        """Return `count` texts that this source has not given out before."""
        texts: list[str] = []
        for length in lengths.draw(count, self._generator):
            text = self._text(length)
            while text in self._given:
                text = self._text(length)
            self._given.add(text)
            texts.append(text)
        return texts

    def _text(self, length: int) -> str:
        return " ".join(next(self._words) for _ in range(length))

    def _running_words(self, sentences: Sequence[Sequence[str]]) -> Iterator[str]:
        while True:
            for place in self._generator.permutation(len(sentences)):
                yield from sentences[place]


def example_sentences() -> list[str]:
    """Return the English sentences of the repository's examples."""
    lines = _EXAMPLES.read_text(encoding="utf-8").splitlines()
    return [text for line in lines if (text := json.loads(line)["text"]).isascii() and text.strip()]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts, and how alike people found them."""

    left: str
    right: str
    score: float


def read_pairs(path: Path) -> list[Pair]:
    """Read a csv file of two texts and a score in each row; a first row without a number is taken for a heading.

    Raises:
        ValueError: When another row is not of that kind.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    if rows and not _is_number(rows[0][-1]):
        del rows[0]
    for number, row in enumerate(rows, 1):
        if len(row) != 3 or not _is_number(row[2]):
            raise ValueError(f"{path}, row {number} below any heading: not two texts and a score")
    return [Pair(left, right, float(score)) for left, right, score in rows]


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
