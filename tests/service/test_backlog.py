"""`/v1/backlog`: what an autoscaler reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, select

from producer.api.settings import ApiSettings
from storage.contract.errors import StorageFull
from storage.contract.models import DEFAULT_MODEL
from storage.tables import LeaderRow
from tests.acceptance.shell import until
from tests.service.serving import Served, serving
from tests.storage.builders import CARD, serve, submit

_NOTES = LeaderRow.duty.startswith("wanted:")


def noted(served: Served) -> list[str]:
    """Return the notes that calls have left."""
    with served.service.stores.database.read() as connection:
        return list(connection.execute(select(LeaderRow.duty).where(_NOTES)).scalars())


def forget_calls(served: Served) -> None:
    """Let it be long since anybody called."""
    with served.service.stores.database.write() as connection:
        connection.execute(delete(LeaderRow).where(_NOTES))


def test_an_idle_model_has_no_backlog_and_a_worker(served: Served, http: httpx.Client) -> None:
    def look() -> dict[str, Any]:
        told: dict[str, Any] = http.get("/v1/backlog", params={"model": DEFAULT_MODEL}).json()
        return told

    until(lambda: look()["tokens"] == 0, "the end of what other tests have left")
    forget_calls(served)
    seen = look()
    assert (seen["model"], seen["tokens"], seen["texts"], seen["workers"]) == (DEFAULT_MODEL, 0, 0, 1)
    assert seen["wanted_tokens"] == 0
    # And the service's own model is meant where none is named
    assert http.get("/v1/backlog").json()["model"] == DEFAULT_MODEL


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embed"])
def test_a_call_that_no_worker_is_there_for_has_one_started(tmp_path: Path, redis_server: str, path: str) -> None:
    # Given a fleet at zero: a model that was served in two precisions, and is no more, and two replicas of the service
    settings = ApiSettings.load(data_dir=tmp_path, redis_url=redis_server, model=CARD.name)
    with serving(settings) as called, serving(settings) as asked, called.http() as caller, asked.http() as autoscaler:
        stores = called.service.stores
        for card in (CARD, replace(CARD, precision="half")):
            stores.workers.leave(serve(stores, card))

        def wanted(**of: str) -> int:
            told: int = autoscaler.get("/v1/backlog", params={"model": CARD.name} | of).json()["wanted_tokens"]
            return told

        assert wanted() == 0
        # When somebody calls one of the two, then he is told when to come again, and has left no job
        answer = caller.post(path, json={"input": "rye"} if path.startswith("/v1") else {"inputs": "rye"})
        assert answer.status_code == 503 and int(answer.headers["Retry-After"]) == 30
        assert stores.backlogs.of_model(CARD.name).urgent.texts == 0
        # And the other tells an autoscaler that one worker is wanted, of the kind that a job would be bound to
        assert wanted() == 1 and wanted(revision=CARD.revision) == 1
        assert (wanted(precision="half"), wanted(precision="float32")) == (1, 0)
        # And a call for what was never there leaves no note
        assert caller.post("/v1/embeddings", json={"input": "rye", "model": "mill/never"}).status_code == 404
        assert len(noted(called)) == 1
        # And when nobody has called for long, then none is wanted
        forget_calls(called)
        assert wanted() == 0


def test_a_call_is_refused_as_it_is_where_no_note_can_be_written(
    tmp_path: Path, redis_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a model that nobody serves, and a database that takes no note
    def full(model_id: str) -> None:
        raise StorageFull("The disk is full.")

    with serving(ApiSettings.load(data_dir=tmp_path, redis_url=redis_server, model=CARD.name)) as served:
        served.service.stores.workers.leave(serve(served.service.stores))
        monkeypatch.setattr(served.service.stores.wanted, "note", full)
        # Then the caller hears what matters to him
        with served.http() as http:
            answer = http.post("/v1/embeddings", json={"input": "rye"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_unavailable")


def test_a_worker_is_wanted_while_calls_are_answered(
    served: Served, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given calls that are done in no time, so that nothing waits whenever an autoscaler asks
    monkeypatch.setattr(served.service.stores.wanted, "_noted", {})
    forget_calls(served)
    assert http.post("/v1/embeddings", json={"input": "rye"}).status_code == 200
    until(lambda: http.get("/v1/backlog").json()["tokens"] == 0, "the end of what other tests have left")
    # Then their worker is not taken away for want of work
    assert http.get("/v1/backlog").json()["wanted_tokens"] == 1


def test_texts_that_no_worker_takes_are_a_backlog_until_they_are_cancelled(served: Served, http: httpx.Client) -> None:
    # Given a job whose workers were all scaled away, and a model that nobody has asked for
    job = submit(served.service.stores, 2, card=None, model="mill/far-away")
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
    assert http.get("/v1/backlog", params={"model": "mill/far-away"}).json()["tokens"] == 0


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
