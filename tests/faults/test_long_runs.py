from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.faults import outcomes, table
from tests.faults.recoveries import spread
from tests.faults.strokes import WEIGHTS, stroke, strokes


def test_a_fault_of_a_seed_is_the_same_in_any_run_and_another_in_another_seed() -> None:
    # Given a run from the beginning, and one that is taken up in the middle
    whole, later = list(strokes(5, 0, 60)), list(strokes(5, 40, 20))
    # Then what they share is the same, and a seed is not another one
    assert whole[40:] == later
    assert [each.number for each in whole] == list(range(60))
    assert whole != list(strokes(6, 0, 60))


def test_faults_come_as_often_as_their_weights_say_two_seconds_apart_on_average() -> None:
    # Given many faults
    many = list(strokes(1, 0, 20_000))
    # Then each kind has its share, and lasts only where there is something to undo
    counted = Counter(each.kind for each in many)
    for kind, weight in WEIGHTS.items():
        assert counted[kind] == pytest.approx(200 * weight, rel=0.25)
    assert {each.kind for each in many if not each.lasts} == {kind for kind in WEIGHTS if not stroke_lasts(kind)}
    assert sum(each.gap for each in many) / len(many) == pytest.approx(2.0, rel=0.05)
    assert all(0 <= each.target < 1 for each in many)


def stroke_lasts(kind: str) -> bool:
    return next(each.lasts > 0 for each in map(lambda number: stroke(2, number), range(5000)) if each.kind == kind)


def test_a_spread_tells_the_median_the_99th_percentile_and_the_greatest() -> None:
    # Given the numbers from one to two hundred, in disorder
    values = [float(number) for number in reversed(range(1, 201))]
    # Then they are those of nearest rank
    assert spread(values) == {"n": 200, "p50": 100, "p99": 198, "max": 200}
    assert spread([3.0]) == {"n": 1, "p50": 3.0, "p99": 3.0, "max": 3.0}
    assert spread([]) == {"n": 0}


def test_the_table_tells_of_failed_tests_and_leaves_what_was_written_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a page with words before and after its marks, and results with a failure among them
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- results: begin -->\nold\n<!-- results: end -->\nafter\n")
    monkeypatch.setattr(table, "PAGE", page)
    monkeypatch.setattr(outcomes, "FOLDER", tmp_path)
    verdicts = [
        {"scenario": "F9", "database": "sqlite", "outcome": outcome, "test": "t"} for outcome in ("passed", "failed")
    ]
    figures = [{"scenario": "F9", "database": "sqlite", "figure": "seconds until work", "value": 1.25}]
    (tmp_path / "scenarios.jsonl").write_text("".join(json.dumps(line) + "\n" for line in verdicts))
    (tmp_path / "figures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in figures))
    # When the table is written, twice
    table.write_page()
    table.write_page()
    # Then it says so, once, between the marks
    text = page.read_text()
    assert text.startswith("before\n<!-- results: begin -->\n") and text.endswith("<!-- results: end -->\nafter\n")
    (row,) = [line for line in text.splitlines() if line.startswith("| F9 |")]
    assert "1 passed, 1 **failed**" in row and "seconds until work: 1.25" in row
    assert "old" not in text
