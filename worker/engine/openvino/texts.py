"""Texts of many kinds, languages and lengths: what int8's ranges are learnt from, and what its loss is measured on."""

from __future__ import annotations

from dataclasses import dataclass

from worker.engine.sentences import SENTENCES

#: Every fifth sentence is held out: texts made of these measure the loss and are never learnt from.
_HELD_OUT = 5

#: How many neighbouring sentences are joined to one text: titles and questions, paragraphs, pages that may be cut.
_JOINED = (1, 3, 8, 24)


@dataclass(frozen=True, slots=True)
class Texts:
    """Two sets of texts that have no sentence in common.

    Args:
        calibration: What ranges are learnt from.
        held_out: What the loss is measured on.
    """

    calibration: list[str]
    held_out: list[str]


def built_in() -> Texts:
    """Return all built-in sentences, alone and joined to longer texts."""
    learnt = [sentence for place, sentence in enumerate(SENTENCES) if place % _HELD_OUT]
    return Texts(_with_joined(learnt), _with_joined(SENTENCES[::_HELD_OUT]))


def _with_joined(sentences: list[str]) -> list[str]:
    return [" ".join(sentences[start : start + size]) for size in _JOINED for start in range(0, len(sentences), size)]
