"""The service under load, in short; `make bench PART=service` measures the whole of it."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from benchmarks.crowd import call
from benchmarks.service import followed, waiting_job
from benchmarks.transfers import Transfer, download, service_alone, transferred, upload
from storage.contract.errors import WrongState
from storage.contract.settings import Settings
from tests.service.serving import Served, awaited

MIB = 2**20

#: Bytes that are moved, and the most memory that may take beyond that of the start.
MOVED, SLACK = 80_000_000, 64 * MIB


def test_many_call_beside_a_bulk_job_and_all_get_their_vectors(served: Served) -> None:
    texts = [f"Sack {number} of the harvest" for number in range(3_000)]
    statuses: Counter[int] = Counter()
    deadline = time.monotonic() + 60
    # (until there was time for so many, on a machine of any speed)
    while statuses[200] < 100 and time.monotonic() < deadline:
        # Given a bulk job that keeps the worker busy
        bulk = served.service.client.submit(texts)
        # When many call at the same time
        statuses += awaited(call(served.url, texts, clients=100, seconds=3)).statuses
        with suppress(WrongState):  # it may have ended by now
            bulk.cancel()
    # Then none of them failed, and those that found no room were told so
    assert set(statuses) <= {200, 429}
    assert statuses[200] >= 100


def test_one_process_holds_many_streams_and_answers_beside_them(data_dir: Path, tmp_path: Path) -> None:
    # Given a service in a process of its own, and jobs that wait
    with (
        service_alone(Settings(data_dir=data_dir).database, tmp_path) as (url, pid),
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        jobs = [waiting_job(http) for _ in range(3)]
        # When hundreds follow them
        told = awaited(followed(url, pid, http, jobs, streams=300, questions=3))
    # Then all were told the end, and none was lost
    assert (told["told_the_end"], told["lost"]) == (300, 0)
    assert told["memory_open"] < 250 * MIB


@pytest.mark.parametrize("move", [upload, download])
def test_what_is_moved_is_never_in_memory_as_a_whole(move: Transfer) -> None:
    found = transferred(move, MOVED)
    assert found["bytes"] > MOVED * 0.98
    for side in ("service_memory", "client_memory"):
        assert found[side]["peak"] - found[side]["first"] < SLACK, found
