"""Where the words of generated texts come from: sentences of the repository's examples, or of any file."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "sentences.jsonl"

#: The ideographs of Chinese, Japanese and Korean; one of them in a sentence makes it one of these languages here.
_IDEOGRAPHS = ("\u3400", "\u9fff")


@dataclass(frozen=True, slots=True)
class Words:
    """Real sentences.

    Args:
        origin: What they are called in results.
        spaced: Sentences whose words have spaces between them, each as its words.
        unspaced: Chinese ones, each as its characters.
    """

    origin: str
    spaced: Sequence[Sequence[str]]
    unspaced: Sequence[Sequence[str]]


def read_words(files: Sequence[Path] = ()) -> Words:
    """Read sentences; the examples stand in for what the files have none of.

    Args:
        files: `.csv` (every field that is no number), `.jsonl` (the field `text`), else one text a line.
    """
    given = _divide([sentence for file in files for sentence in _read(file)])
    examples = _divide(_read(_EXAMPLES))
    origin = f"{len(files)} files given" if files else "examples/sentences.jsonl"
    return Words(origin, given[0] or examples[0], given[1] or examples[1])


def _divide(sentences: Sequence[str]) -> tuple[list[list[str]], list[list[str]]]:
    unspaced = [list("".join(sentence.split())) for sentence in sentences if _has_ideographs(sentence)]
    return [sentence.split() for sentence in sentences if sentence.isascii() and sentence.strip()], unspaced


def _has_ideographs(sentence: str) -> bool:
    first, last = _IDEOGRAPHS
    return any(first <= character <= last for character in sentence)


def _read(file: Path) -> list[str]:
    if file.suffix == ".csv":
        with file.open(encoding="utf-8-sig", newline="") as opened:
            return [field for row in csv.reader(opened) for field in row if not _is_number(field)]
    lines = file.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines] if file.suffix == ".jsonl" else lines


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
