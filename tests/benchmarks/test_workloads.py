"""Texts to measure with: real words, the lengths that were asked for, the same in every run and never one twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.lengths import LogNormal, Mixture, Uniform
from benchmarks.texts import TextSource
from benchmarks.words import read_words
from benchmarks.workloads import WORKLOADS, Sets


def _count_words(texts: list[str]) -> int:
    return sum(len(text.split()) or len(text) for text in texts)


@pytest.mark.parametrize("key", [key for key in WORKLOADS if key != "W6"])
def test_no_text_comes_twice_and_every_run_has_the_same(key: str) -> None:
    # Given a workload, when sets are made of it in two runs
    runs = []
    for _ in range(2):
        sets = Sets(WORKLOADS[key], read_words(), 2_000, _count_words, seed=7)
        runs.append([sets.next() for _ in range(3)])
    # Then both have the same texts, and no text is in two sets or twice in one
    assert runs[0] == runs[1]
    texts = [text for one in runs[0] for text in one]
    assert len(set(texts)) == len(texts) > 0
    # And another seed has others
    other = Sets(WORKLOADS[key], read_words(), 2_000, _count_words, seed=8).next()
    assert not set(other) <= set(runs[0][0])


def test_duplicates_are_as_many_as_the_workload_says() -> None:
    # Given the workload of duplicates, when a set of it is made
    found = TextSource(read_words().spaced).take(WORKLOADS["W6"].lengths, 100, WORKLOADS["W6"].repeated)
    # Then 30 of 100 are copies of the others
    assert len(found) == 100 and len(set(found)) == 70


def test_lengths_are_those_of_their_distribution() -> None:
    # Given distributions, when many lengths are drawn
    dice = np.random.default_rng(7)
    log_normal = LogNormal(72, 0.8, 2, 400).draw(20_000, dice)
    uniform = Uniform(3, 5).draw(1_000, dice)
    mixed = Mixture((Uniform(10, 10), Uniform(400, 400)), (0.8, 0.2)).draw(10_000, dice)
    # Then median, ends and shares are as asked
    assert 68 < np.median(log_normal) < 76 and log_normal.min() >= 2 and log_normal.max() == 400
    assert set(uniform.tolist()) == {3, 4, 5}
    assert set(mixed.tolist()) == {10, 400} and 0.78 < (mixed == 10).mean() < 0.82


def test_words_of_a_file_are_used_and_the_examples_stand_in_for_the_rest(tmp_path: Path) -> None:
    # Given a csv file of English sentences with scores
    file = tmp_path / "pairs.csv"
    file.write_text("left,right,score\nRain falls here.,Snow lies there.,4.2\n", encoding="utf-8")
    # When words are read of it
    words = read_words([file])
    # Then its sentences are there without the scores, and the Chinese ones are the examples'
    assert ["Rain", "falls", "here."] in words.spaced and ["4.2"] not in words.spaced
    assert words.unspaced == read_words().unspaced and words.unspaced
