"""The harness itself: a mill that nobody hurts does its work, and the oracle sees what is wrong."""

from __future__ import annotations

import pytest

from tests.faults.mill import running_mill


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_mill_that_nobody_hurts_does_all_its_work(kind: str) -> None:
    # Given a mill with two worker processes
    with running_mill(kind, slots=2) as mill:
        # When jobs are submitted from here and from another process, some texts of one marked as bad
        first = mill.submit(3_000, ids=True)
        mill.submit(40, length=2_000, markers={7: "!raise"})
        process = mill.start_producer(100, key="monday")
        assert process.wait(60) == 0
        # Then all of it is done
        mill.wait_complete()
        report = mill.judge()
        assert report.is_clean, report.summary()
        assert (report.jobs, report.items) == (3, 3_140)
        assert mill.client.job(first).status().succeeded == 3_000
