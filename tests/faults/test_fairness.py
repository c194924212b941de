"""A small job behind a large one of somebody else."""

from __future__ import annotations

import time

import pytest

from tests.faults.forms import FULL, KINDS, full, scenario
from tests.faults.running import running_mill

#: Texts of the large job, and how long the encoder takes for each: a minute and a half's work in the long form.
LARGE, PAUSE_PER_TEXT = (300_000, 0.000_3) if FULL else (20_000, 0.000_5)


@full
@scenario("F46")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
def test_a_small_job_does_not_wait_for_a_large_one_of_another_key(kind: str) -> None:
    with running_mill(kind, FAULTS_PAUSE_PER_TEXT=str(PAUSE_PER_TEXT)) as mill:
        # Given a large job that is being worked on
        large = mill.submit(LARGE)
        mill.sql("UPDATE jobs SET key_id = 'large' WHERE id = ?", large)
        mill.seconds_until_progress()
        # When a small one of another key comes
        start = time.monotonic()
        small = mill.submit(100)
        mill.wait_for(lambda: mill.sql("SELECT 1 FROM jobs WHERE id = ? AND started_at IS NOT NULL", small))
        mill.record("F46", "seconds until the small job was begun", time.monotonic() - start)
        mill.wait_for(lambda: mill.client.job(small).status().is_final, what="the small job")
        mill.record("F46", "seconds until the small job was done", time.monotonic() - start)
        # Then it is done long before the large one
        status = mill.client.job(large).status()
        assert status.pending > LARGE // 4
        assert mill.client.job(small).status().succeeded == 100
        mill.wait_complete(timeout=450)
