"""The workloads: which lengths texts have, in which language, and how many of them are repeated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.docstrings import Docstrings
from benchmarks.lengths import Lengths, LogNormal, Mixture, Uniform
from benchmarks.texts import TextSource
from benchmarks.words import Words

#: Texts whose tokens are counted to find out how many make a set.
_SAMPLE = 400


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of texts.

    Args:
        key: Short name.
        title: What it is.
        lengths: In words; in characters where there are no spaces.
        unspaced: Whether the texts are Chinese.
        repeated: Which share of a set's texts are copies of others.
        as_they_are: Whether they are real paragraphs, whose lengths nobody chose.
    """

    key: str
    title: str
    lengths: Lengths
    unspaced: bool = False
    repeated: float = 0.0
    as_they_are: bool = False


# An English word is about 1.25 tokens; every text has two special ones besides.
_PARAGRAPHS = LogNormal(median=72, spread=0.8, shortest=2, longest=400)
_SHORT = Uniform(2, 18)
_BIMODAL = Mixture((Uniform(9, 13), Uniform(390, 420)), (0.8, 0.2))

WORKLOADS = {
    one.key: one
    for one in (
        Workload("W1", "mixed paragraphs: log-normal, mean about 128 tokens, at most 512", _PARAGRAPHS),
        Workload("W2", "short queries: 4 to 24 tokens", _SHORT),
        Workload("W3", "long documents: 400 to 2,000 tokens, each cut at the model's limit", Uniform(320, 1600)),
        Workload("W4", "Chinese: log-normal, mean about 70 characters", LogNormal(60, 0.6, 4, 250), unspaced=True),
        Workload("W5", "bimodal: 80 % about 16 tokens, 20 % about 512", _BIMODAL),
        Workload("W6", "duplicates: as W1, 30 % of the texts are copies", _PARAGRAPHS, repeated=0.3),
        Workload("W7", "real paragraphs: docstrings of Python's own library", _PARAGRAPHS, as_they_are=True),
    )
}


class Sets:
    """Sets of texts of one workload, about equally many tokens each, no text in two of them.

    Args:
        workload: What the texts are like.
        words: What they are made of.
        tokens: About so many tokens a set.
        count_tokens: Tells how many tokens the encoder reads of some texts.
        seed: The same seed gives the same sets.
    """

    def __init__(
        self, workload: Workload, words: Words, tokens: int, count_tokens: Callable[[list[str]], int], seed: int
    ) -> None:
        self._workload = workload
        self._real = Docstrings(seed) if workload.as_they_are else None
        sentences, joint = (words.unspaced, "") if workload.unspaced else (words.spaced, " ")
        self._source = TextSource(sentences, joint, seed)
        sample = self._take(_SAMPLE)
        self.count = max(1, round(tokens * _SAMPLE / count_tokens(sample)))

    def next(self, share: float = 1.0) -> list[str]:
        """Return the next set, or a share of one."""
        return self._take(max(1, round(self.count * share)), self._workload.repeated)

    def _take(self, count: int, repeated: float = 0.0) -> list[str]:
        if self._real is not None:
            return self._real.take(count)
        return self._source.take(self._workload.lengths, count, repeated)
