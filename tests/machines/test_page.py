"""The page of many machines: its table is made of the results."""

from __future__ import annotations

from tests.machines import measure


def test_the_page_has_what_was_measured() -> None:
    measured = measure.table()
    assert measured.count("\n") > 5
    assert measured in measure.PAGE.read_text()
