"""Hints of the ends of jobs, as they come out of a Redis in which anybody may write."""

from __future__ import annotations

from contextlib import closing

import pytest
import redis

from storage.contract.broker import FINISHED_CHANNEL
from storage.contract.ids import new_id
from storage.hints import Hints

#: Longest wait for what has been sent already, in seconds.
PATIENCE = 50.0


def test_a_hint_that_nobody_of_ours_has_sent_deafens_nobody(redis_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.hints._TIMEOUT", PATIENCE)
    job_id = new_id()
    with closing(Hints(redis_server)) as hints, hints.listen() as ear, redis.Redis.from_url(redis_server) as stranger:
        # Given bytes that are no letters among the hints
        stranger.publish(FINISHED_CHANNEL, b"\xff\xfe chaff")
        hints.publish([job_id])
        # Then whoever listens hears what comes behind them
        heard: list[str] = []
        while job_id not in heard:
            heard = ear.hear(PATIENCE)
            assert heard
        # And so does whoever waits for one job alone
        stranger.publish(FINISHED_CHANNEL, b"\xff\xfe chaff")
        hints.publish([job_id])
        assert ear.wait(job_id, PATIENCE)
