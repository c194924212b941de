"""Texts that a machine is measured with: sentences of several languages, paragraphs and pages made of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from worker.engine.sentences import SENTENCES

#: Every eighth: each has to be embedded several times before the first start is done.
_SENTENCES = SENTENCES[::8]

#: Sentences of a paragraph, and how many places later the next one begins.
_PARAGRAPH, _STEP = 5, 4

#: Copies of all sentences that make a page longer than any text is read here.
_PAGE = 4


def sample_texts() -> list[list[str]]:
    """Return the texts that vectors are compared on: sentences, paragraphs, pages longer than any text is read here."""
    paragraphs = [
        " ".join(_SENTENCES[first : first + _PARAGRAPH]) for first in range(0, len(_SENTENCES) - _PARAGRAPH + 1, _STEP)
    ]
    return [_SENTENCES, paragraphs, [" ".join(_SENTENCES * _PAGE), " ".join(_SENTENCES[::-1] * _PAGE)]]


def many_texts(count: int) -> list[str]:
    """Return texts that speed is measured on, no two alike: sentences, and paragraphs of two to nine of them.

    Args:
        count: How many.
    """
    return list(islice(_endless(), count))


def _endless() -> Iterator[str]:
    number = 0
    while True:
        first, length = number * 8 % len(_SENTENCES), (1, 2, 1, 4, 1, 9)[number % 6]
        sentences = (_SENTENCES[(first + place) % len(_SENTENCES)] for place in range(length))
        yield f"{number} {' '.join(sentences)}"
        number += 1
