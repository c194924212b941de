"""What a Prometheus server is told, over both databases."""

from __future__ import annotations

from storage import counters
from storage.contract.messages import Pointer
from storage.stores import Stores
from tests.storage.builders import CARD, serve, submit
from worker.metrics import Metrics


def test_metrics_tell_defences_chunks_and_workers(stores: Stores) -> None:
    # Given a worker, a job of three chunks of which one is at work, and a defence that was needed twice
    counters.take()
    metrics = Metrics(stores)
    worker = serve(stores)
    job_id = submit(stores, chunks=3)
    stores.leases.claim(Pointer(job_id, 0), worker, CARD.id, 0)
    counters.count("commits_late", 2)
    stores.counters.flush()
    # When somebody asks
    told = metrics.text().decode().splitlines()
    # Then all of it is told, zeros too, and no text
    assert "embedmill_commits_late_total 2.0" in told
    assert "embedmill_invariants_broken_total 0.0" in told
    assert 'embedmill_chunks{state="pending"} 2.0' in told
    assert 'embedmill_chunks{state="leased"} 1.0' in told
    assert f'embedmill_workers{{model="{CARD.name}",precision="{CARD.precision}"}} 1.0' in told
    assert "wheat" not in "".join(told)
