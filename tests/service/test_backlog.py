"""`/v1/backlog`: what an autoscaler reads."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from storage.backlogs import Waiting
from storage.contract.models import DEFAULT_MODEL
from tests.acceptance.shell import until
from tests.service.serving import Served
from tests.storage.builders import submit


def test_an_idle_model_has_no_backlog_and_a_worker(http: httpx.Client) -> None:
    def look() -> dict[str, Any]:
        told: dict[str, Any] = http.get("/v1/backlog", params={"model": DEFAULT_MODEL}).json()
        return told

    until(lambda: look()["tokens"] == 0, "the end of what other tests have left")
    seen = look()
    assert (seen["model"], seen["tokens"], seen["texts"], seen["workers"]) == (DEFAULT_MODEL, 0, 0, 1)
    assert seen["wanted_tokens"] == 0
    # And the service's own model is meant where none is named
    assert http.get("/v1/backlog").json()["model"] == DEFAULT_MODEL


def test_texts_that_no_worker_takes_are_a_backlog_until_they_are_cancelled(served: Served, http: httpx.Client) -> None:
    # Given a job whose workers were all scaled away, and a model that nobody has asked for
    job = submit(served.service.stores, 2, card=None, model="mill/far-away")

    def tokens() -> int:
        return int(http.get("/v1/backlog", params={"model": "mill/far-away"}).json()["tokens"])

    # What waits is added up for all who ask within a moment
    until(lambda: tokens() > 0, "the job in the backlog")
    # When an autoscaler asks, then it is told of the one, and that nothing waits for the other
    waiting, unknown = (
        http.get("/v1/backlog", params={"model": name}).json() for name in ("mill/far-away", "mill/unknown")
    )
    assert (waiting["tokens"], waiting["urgent_tokens"], waiting["texts"], waiting["workers"]) == (40, 0, 4, 0)
    assert (unknown["tokens"], unknown["oldest_seconds"]) == (0, 0)
    # And that one worker of what was never there is wanted all the same, so that it becomes known
    assert (waiting["wanted_tokens"], unknown["wanted_tokens"]) == (40, 1)
    # And when nobody wants it any more, then nothing waits
    assert http.post(f"/v1/jobs/{job}/cancel").status_code == 200
    until(lambda: tokens() == 0, "an empty backlog")


def test_many_who_ask_at_once_have_chunks_added_up_once(
    served: Served, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a database in which it takes long to add up what waits
    added_up = []

    def add_up() -> list[Waiting]:
        added_up.append(1)
        time.sleep(1.5)
        return []

    monkeypatch.setattr(served.service.backlog, "_find", add_up)
    monkeypatch.setattr(served.service.backlog, "_due", 0.0)
    # When many autoscalers ask, for one model or another, and somebody looks at the workers and at the page
    asked = ["/v1/backlog", "/v1/backlog?model=mill/other", "/v1/workers", "/", "/workers"] * 4
    with ThreadPoolExecutor(8) as threads:
        assert {answer.status_code for answer in threads.map(http.get, asked)} == {200}
    # Then all of them have the one answer, which is kept for twenty times as long as it took
    assert len(added_up) == 1


def test_a_precision_that_is_none_is_refused(http: httpx.Client) -> None:
    assert http.get("/v1/backlog", params={"precision": "float64"}).status_code == 400


@pytest.mark.parametrize("name", ["model", "revision"])
def test_a_word_that_no_database_keeps_is_refused(http: httpx.Client, name: str) -> None:
    answer = http.get("/v1/backlog", params={name: "mill\0"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_option")


def test_only_a_key_that_may_read_is_told(keyed: Served) -> None:
    stores = keyed.service.stores
    with keyed.http() as http:
        assert http.get("/v1/backlog").status_code == 401
        for scopes, status in ((["read"], 200), (["embed"], 403)):
            _, secret = stores.keys.create("autoscaler", scopes)
            answer = http.get("/v1/backlog", headers={"Authorization": f"Bearer {secret}"})
            assert answer.status_code == status
