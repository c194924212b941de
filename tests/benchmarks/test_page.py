"""The pages of figures: their tables are made of the results, and what was not measured is empty."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.figures import Figures
from benchmarks.page import PAGES, TABLES, written

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


def _results(folder: Path, times: float) -> Figures:
    machine = {"processor": "a Z80", "cores": 1, "measured_at": "2026-01-02T03:04:05+00:00"}
    section = {"machine": machine, "times": times}
    (folder / "keys.json").write_text(json.dumps({"auto": section}), encoding="utf-8")
    return Figures(folder)


def test_a_goal_is_met_missed_or_empty(tmp_path: Path) -> None:
    # Given results of one goal alone, once within it and once beyond
    tables = [TABLES["goals"](_results(tmp_path, times)) for times in (2.9, 3.1)]
    # When the goals are told
    rows = [[line for line in table.splitlines() if line.startswith("| one-text jobs")] for table in tables]
    # Then it is met or missed, with the machine and the day below, and nothing is said of a second machine
    assert "| at most 3.00 | 2.90 | met | | |" in rows[0][0].replace("  ", " ")
    assert "| at most 3.00 | 3.10 | **missed** | | |" in rows[1][0].replace("  ", " ")
    *lines, _, where = tables[0].splitlines()
    assert where == "Where and when: vector registers: a Z80, 1 cores, 2026-01-02."
    # And every other row is empty
    others = [line for line in lines[2:] if not line.startswith("| one-text jobs")]
    assert others and all(line.replace(" ", "").endswith("|||||") for line in others)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_has_a_place_for_every_table_and_is_written_again_the_same(path: Path, tmp_path: Path) -> None:
    # Given a page, when it is written with no results, and once more
    page, tables = path.read_text(encoding="utf-8"), PAGES[path]
    first = written(page, Figures(tmp_path), tables)
    # Then what stands around the tables stays, and nothing is added
    assert first.count("Not measured yet.") == len(tables) - ("goals" in tables)
    assert written(first, Figures(tmp_path), tables) == first
    for edge in (0, -1):
        assert first.splitlines()[edge] == page.splitlines()[edge]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_figures_of_a_page_are_those_that_were_measured(path: Path) -> None:
    # Given a page as it is committed, when it is written out of the committed results, then nothing changes
    page = path.read_text(encoding="utf-8")
    assert written(page, Figures(RESULTS), PAGES[path]) == page


def test_a_page_without_a_place_is_refused(tmp_path: Path) -> None:
    # Given a page without marks, when it is to be written, then the missing place is named
    with pytest.raises(ValueError, match="goals"):
        written("# Nothing", Figures(tmp_path))
