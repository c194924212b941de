"""Texts to measure with: the lines of a file, over and over, or made ones where no file is given."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from storage.contract.errors import InvalidFile

_STORY = """
the old mill stands where two rivers meet and its wheel turns slowly through most of winter but each spring when snow
melts in the mountains water rises above stone steps so that nobody can cross before noon farmers bring wheat rye barley
in heavy sacks which are weighed recorded ground sifted stored carried away again by evening while children watch from
the bridge counting boats that pass below some travellers stop to ask how long such machines have been working here or
why flour from this valley costs twice as much as elsewhere an answer is hard to give because quality price history
depend on many things weather trade wages patience luck even songs people sing during harvest have been blamed for good
years yet records kept since 1742 show only what was paid by whom on which day not what anybody thought about it
"""

#: Words of a made text: log-normal, as paragraphs are, about 128 tokens on average.
_MEDIAN, _SPREAD, _MOST = 72, 0.8, 400

_SEED = 7


def made_texts() -> Iterator[str]:
    """Yield paragraphs without end, the same ones each time."""
    words, generator = _STORY.split(), np.random.default_rng(_SEED)
    while True:
        count = int(np.clip(generator.lognormal(np.log(_MEDIAN), _SPREAD), 2, _MOST))
        yield " ".join(words[place] for place in generator.integers(0, len(words), count))


def file_texts(path: Path) -> Iterator[str]:
    """Return the lines of a file that are not blank, over and over; each time round with a number before them.

    The number keeps a text that comes again from being recognised as one that was embedded a moment ago.

    Raises:
        InvalidFile: When it cannot be read, is not UTF-8, or has no text.
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise InvalidFile(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InvalidFile(f"{path} is not UTF-8.", "Save it as UTF-8, one text a line.") from error
    if not lines:
        raise InvalidFile(f"{path} has no text.", "Give a file with one text a line.")
    return _over_and_over(lines)


def _over_and_over(lines: list[str]) -> Iterator[str]:
    yield from lines
    for time_round in itertools.count(2):
        for line in lines:
            yield f"{time_round} {line}"
