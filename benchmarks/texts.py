"""Texts to measure with: made of real words, with the lengths that are asked for, the same in every run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.lengths import Lengths

#: A text that came out as one given before is drawn again so often, each time one word longer from then on.
_PATIENCE = 20


class TextSource:
    """Gives out texts cut from running sentences, never one twice.

    Args:
        sentences: What the texts are made of, each as its words or characters.
        joint: What stands between two of these.
        seed: The same seed gives the same texts.
    """

    def __init__(self, sentences: Sequence[Sequence[str]], joint: str = " ", seed: int = 7) -> None:
        self._generator = np.random.default_rng(seed)
        self._words = self._running_words(sentences)
        self._joint = joint
        self._given: set[str] = set()

    def take(self, lengths: Lengths, count: int, repeated: float = 0.0) -> list[str]:
        """Return texts that this source has not given out before.

        Args:
            lengths: How long they are, in words or characters.
            count: How many.
            repeated: Which share of them are copies of others of these, at random places.
        """
        copies = round(count * repeated)
        texts = [self._new(int(length)) for length in lengths.draw(count - copies, self._generator)]
        texts += [texts[place] for place in self._generator.integers(0, len(texts), copies)]
        return [texts[place] for place in self._generator.permutation(count)]

    def _new(self, length: int) -> str:
        tries = 0
        text = self._text(length)
        while text in self._given:
            tries += 1
            text = self._text(length + tries // _PATIENCE)
        self._given.add(text)
        return text

    def _text(self, length: int) -> str:
        return self._joint.join(next(self._words) for _ in range(length))

    def _running_words(self, sentences: Sequence[Sequence[str]]) -> Iterator[str]:
        while True:
            for place in self._generator.permutation(len(sentences)):
                yield from sentences[place]
