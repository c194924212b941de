"""The table of the fault suite: made of the results, with every goal beside what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.faults import mill, outcomes, table
from tests.faults.mill import Mill
from tests.faults.rows import AT_LEAST, AT_MOST, ROWS, missed_goal
from tests.faults.servers import RedisMachine

#: Rows whose limit no figure has: their tests assert it themselves, in whichever form (F45: `ten_million.py`).
ASSERTED = {"F44", "F45"}


def test_the_table_tells_of_failed_tests_and_missed_goals_and_leaves_what_was_written_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a page with words before and after its marks, and results with a failure and a goal that is missed
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- results: begin -->\nold\n<!-- results: end -->\nafter\n")
    monkeypatch.setattr(table, "PAGE", page)
    monkeypatch.setattr(outcomes, "FOLDER", tmp_path)
    verdicts = [
        {"scenario": "F9", "database": "sqlite", "outcome": outcome, "test": "t"} for outcome in ("passed", "failed")
    ]
    figures = [
        {"scenario": "F9", "database": "sqlite", "figure": "seconds until work", "value": 1.25},
        {"scenario": "F9", "database": "sqlite", "figure": "seconds until lost messages were sent again", "value": 12},
    ]
    (tmp_path / "scenarios.jsonl").write_text("".join(json.dumps(line) + "\n" for line in verdicts))
    (tmp_path / "figures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in figures))
    # When the table is written, twice
    table.write_page()
    table.write_page()
    # Then it says so, once, between the marks
    text = page.read_text()
    assert text.startswith("before\n<!-- results: begin -->\n") and text.endswith("<!-- results: end -->\nafter\n")
    (row,) = [line for line in text.splitlines() if line.startswith("| F9 |")]
    assert "1 of 2 passed, 1 **failed**" in row and "seconds until work: 1.25;" in row
    assert row.endswith("seconds until lost messages were sent again: 12 (**beyond at most 10**) |")
    assert "old" not in text


def test_the_page_has_what_the_results_tell() -> None:
    # Given the page as it is committed, then every part of it is the one that is made of the committed results
    page, parts = table.PAGE.read_text(), table.tables()
    assert len(parts) == 5
    assert [part.splitlines()[0] for part in parts if part not in page] == []


def test_every_limit_that_a_row_asks_for_is_one_that_a_figure_is_held_to() -> None:
    # Given the rows that ask for a number
    limited = {name for name, (_, asked) in ROWS.items() if re.search(r"(within|at most|at least|below) \w*\d", asked)}
    goals = AT_MOST | AT_LEAST
    assert len(limited) > 15
    # Then each has a goal, but for those whose tests need none
    assert limited - {row for row, _ in goals} == ASSERTED
    # And each goal's figure is measured by a test
    told = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__))
    for row, figure in goals:
        assert row in ROWS and f'record("{row}", "{figure}"' in told, figure


def test_a_goal_is_met_up_to_its_limit() -> None:
    assert missed_goal("F9", "seconds until lost messages were sent again", 10.0) == ""
    assert missed_goal("F9", "seconds until lost messages were sent again", 10.1) == "at most 10"
    assert missed_goal("F12", "throughput at 50 ms of delay, share", 0.8) == ""
    assert missed_goal("F12", "throughput at 50 ms of delay, share", 0.79) == "at least 0.8"
    assert missed_goal("F9", "what has no goal", 1e9) == ""


def test_a_missed_goal_fails_the_long_form_alone_and_is_written_down_in_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given figures beyond a goal, in the short form and in the long one
    results = tmp_path / "figures.jsonl"
    monkeypatch.setenv("FAULTS_RESULTS", str(results))
    idle = Mill(tmp_path, RedisMachine(tmp_path), None, f"sqlite:///{tmp_path / 'mill.sqlite3'}")
    monkeypatch.setattr(mill, "FULL", False)
    idle.record("F1", "seconds until the next commit", 6.0)
    monkeypatch.setattr(mill, "FULL", True)
    # When the long form has measured them, then it fails
    with pytest.raises(AssertionError, match="F1, seconds until the next commit: 7, and at most 5 is asked"):
        idle.record("F1", "seconds until the next commit", 7.0)
    # And both lines say what, when and of which commit
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert [line["value"] for line in lines] == [6.0, 7.0]
    assert all(line["at"] and line["commit"] for line in lines)
