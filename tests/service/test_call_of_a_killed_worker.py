"""A call whose worker is killed in its midst is answered by another one, or by the one that is started in its place."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from producer.api.settings import ApiSettings
from tests.faults.encoder import CARD, vectors_of
from tests.faults.forms import full
from tests.faults.running import running_mill
from tests.service.serving import serving

TEXTS = [f"sack {number}" for number in range(40)]


@pytest.mark.parametrize("slots", [1, pytest.param(2, marks=full)])
def test_a_call_in_flight_when_its_worker_is_killed_is_answered_by_the_next(slots: int) -> None:
    # Given a service, workers whose leases run out long after anybody would have waited, and a call that has no end
    with running_mill(slots=slots, lease=3600.0) as mill:
        mill.arm("encode", "hang")
        url = {"database_url": mill.database, "redis_url": mill.redis.url, "data_dir": mill.folder / "data"}
        with (
            serving(ApiSettings.load(model=CARD.name, call_timeout=120, **url)) as served,
            ThreadPoolExecutor(1) as pool,
        ):
            call = pool.submit(httpx.post, f"{served.url}/v1/embeddings", json={"input": TEXTS}, timeout=150)
            # When its worker is killed in the midst of it
            mill.kill(mill.wait_fired("encode", "hang"))
            # Then it is answered all the same, with its supervisor's help and not with the end of a lease
            answer = call.result()
        assert answer.status_code == 200, answer.text
        found = np.array([one["embedding"] for one in answer.json()["data"]], dtype=np.float32)
        np.testing.assert_array_equal(found, vectors_of(TEXTS))
        assert mill.wait_counted("leases_released") >= 1 and mill.counters().get("leases_expired", 0) == 0
