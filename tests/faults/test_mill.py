"""The harness itself: a mill that nobody hurts does its work, and the oracle sees what is wrong."""

from __future__ import annotations

import pytest

from tests.faults.forms import KINDS_POSTGRES_FIRST, full
from tests.faults.running import running_mill


@pytest.mark.parametrize("kind", KINDS_POSTGRES_FIRST)
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


@full
@pytest.mark.parametrize("arrives", [True, False])
def test_a_mill_behind_proxies_finds_out_what_became_of_a_commit_without_an_answer(arrives: bool) -> None:
    # Given a worker process frozen inside the transaction that commits
    with running_mill("postgresql", proxy_redis=True, proxy_database=True) as mill:
        assert mill.database_proxy is not None and mill.redis_proxy is not None
        mill.arm("commit.written", "stop")
        mill.submit(40, length=2_000)
        worker = mill.wait_fired("commit.written", "stop")
        # (a transaction that lasts is that of the frozen process)
        lasting = "state = 'idle in transaction' AND xact_start < clock_timestamp() - interval '1 second'"
        query = f"SELECT client_port FROM pg_stat_activity WHERE {lasting} ORDER BY xact_start"
        port = mill.wait_for(lambda: mill.sql(query))[0][0]
        # When the answer to its COMMIT is lost, or the COMMIT itself
        drop = mill.database_proxy.drop_reply if arrives else mill.database_proxy.drop_request
        drop(b"COMMIT", port)
        mill.thaw(worker)
        assert mill.database_proxy.dropped.wait(60)
        # Then the work is done once, and where the COMMIT arrived the worker has found that out
        mill.wait_complete()
        if arrives:
            mill.wait_counted("commits_resolved")
        # And cut connections to both servers are made again
        mill.redis_proxy.reset()
        mill.database_proxy.reset()
        mill.submit(40, length=2_000)
        mill.wait_complete()
        mill.judge().assert_clean()
