"""`/v1/embeddings` and `/v1/models`, asked by the `openai` package itself."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import openai as sdk
import pytest
from openai import AsyncOpenAI, OpenAI

from producer.api import calls
from producer.api.settings import ApiSettings
from storage.contract.ids import new_id
from storage.contract.models import DEFAULT_MODEL, ModelCard
from storage.contract.settings import Settings
from storage.database import open_database
from storage.stores import Stores
from tests.service.serving import Served, awaited, serving

TEXTS = ["wheat", "The mill turns only when the wind blows.", "rye"]


def until(holds: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def vectors_of_a_job(served: Served, texts: list[str], **options: object) -> np.ndarray:
    job = served.service.client.submit(texts, **options)
    job.wait(60)
    return job.vectors()


def calls_left(served: Served) -> int:
    with served.service.stores.database.read() as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM jobs WHERE kind = 'call'").scalar_one()


def test_vectors_are_those_of_a_job_whether_as_base64_or_as_numbers(
    openai: OpenAI, plain: OpenAI, served: Served, model: str
) -> None:
    wanted = vectors_of_a_job(served, TEXTS)
    # The package asks for base64 when nothing is said, and for numbers when told so
    packed = plain.embeddings.create(model=model, input=TEXTS)
    numbers = openai.embeddings.create(model=model, input=TEXTS, encoding_format="float", user="miller")
    for answer in (packed, numbers):
        assert [one.index for one in answer.data] == [0, 1, 2]
        assert np.allclose([one.embedding for one in answer.data], wanted, atol=1e-6)
        assert answer.model == model
        assert answer.usage.prompt_tokens == answer.usage.total_tokens == 17
    assert np.array_equal(np.float32(packed.data[1].embedding), np.float32(numbers.data[1].embedding))


def test_an_asynchronous_client_gets_one_text_in_fewer_dimensions(served: Served, model: str) -> None:
    async def ask() -> list[float]:
        url = f"{served.url}/v1"
        async with AsyncOpenAI(base_url=url, api_key="x", max_retries=0, _strict_response_validation=True) as client:
            answer = await client.embeddings.create(model=model, input="wheat", dimensions=64, encoding_format="float")
            return answer.data[0].embedding

    vector = awaited(ask())
    assert np.allclose(vector, vectors_of_a_job(served, ["wheat"], dimensions=64)[0], atol=1e-6)


def test_options_of_our_own_are_taken_as_extra_fields(plain: OpenAI, served: Served, model: str) -> None:
    answer = plain.embeddings.create(model=model, input=TEXTS, extra_body={"pooling": "cls", "prompt": "query: "})
    wanted = vectors_of_a_job(served, TEXTS, pooling="cls", prompt="query: ")
    assert np.allclose([one.embedding for one in answer.data], wanted, atol=1e-6)


def test_texts_that_were_cut_are_counted_in_a_header(plain: OpenAI, model: str) -> None:
    raw = plain.embeddings.with_raw_response.create(model=model, input=["wheat " * 600, "rye"])
    assert raw.headers["X-Embedmill-Truncated"] == "1"
    assert len(raw.parse().data) == 2


def test_nothing_is_left_of_a_call_that_was_answered(plain: OpenAI, served: Served, model: str) -> None:
    plain.embeddings.create(model=model, input="barley")
    until(lambda: calls_left(served) == 0)


@pytest.mark.parametrize(
    ("body", "param", "word"),
    [
        ({"input": [15496, 995]}, "input", "check_embedding_ctx_length=False"),
        ({"input": [[15496, 995]]}, "input", "check_embedding_ctx_length=False"),
        ({"input": []}, "input", "at least one"),
        ({"input": ["rye"] * 2049}, "input", "2048"),
        ({"model": "m"}, "input", "at least one"),
        ({"input": "rye", "encoding_format": "hex"}, "encoding_format", "base64"),
        ({"input": "rye", "dimension": 3}, "dimension", "dimensions"),
        ({"input": ["rye", ""]}, None, "input 1: the text is empty"),
        ({"input": ["rye", "\u200b"]}, None, "input 1: The tokenizer finds no token in this text."),
        ({"input": ["rye", 1.5]}, None, "input 1: the text is a number"),
        ({"input": ["\ud800"]}, None, "lone surrogate"),
        ({"input": "rye", "model": "a\0b"}, None, "NUL"),
        ({"input": "rye", "model": 7}, None, "text"),
        ({"input": "rye", "dimensions": 10_000}, None, "384"),
        ({"input": "rye", "dimensions": 0}, None, "dimensions"),
        ({"input": "wheat " * 600, "on_long": "error"}, None, "input 0"),
    ],
)
def test_what_cannot_be_done_is_refused_and_the_field_named(
    http: httpx.Client, body: dict[str, object], param: str | None, word: str
) -> None:
    answer = http.post("/v1/embeddings", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert word in error["message"]


def test_a_model_that_nobody_knows_is_not_found(openai: OpenAI) -> None:
    with pytest.raises(sdk.NotFoundError) as caught:
        openai.embeddings.create(model="mill/nowhere", input="rye")
    assert caught.value.code == "unknown_model"
    with pytest.raises(sdk.NotFoundError):
        openai.models.retrieve("mill/nowhere")
    # And so is a revision that nobody has ever served of a model that is there
    with pytest.raises(sdk.NotFoundError):
        openai.embeddings.create(model=DEFAULT_MODEL, input="rye", extra_body={"revision": "0ld"})


def test_a_model_that_nobody_serves_now_is_told_at_once(openai: OpenAI, served: Served) -> None:
    # Given a model whose only worker has left
    stores, worker = served.service.stores, new_id()
    stores.workers.register(
        ModelCard("mill/gone", "5f1c0de", "float32", 4, 128, 2, "mean", True), worker, "millhouse", 4711, "cpu"
    )
    stores.workers.leave(worker)
    # Then a call does not wait for it, as it would for a minute
    begun = time.monotonic()
    with pytest.raises(sdk.InternalServerError) as caught:
        openai.embeddings.create(model="mill/gone", input="rye")
    assert caught.value.status_code == 503 and caught.value.code == "model_unavailable"
    assert int(caught.value.response.headers["Retry-After"]) >= 1
    assert time.monotonic() - begun < 50 < served.service.settings.call_timeout


def test_models_are_listed_and_shown(openai: OpenAI, model: str) -> None:
    listed = {one.id: one for one in openai.models.list()}
    assert listed[model].object == "model" and listed[model].created > 1_700_000_000
    shown = openai.models.retrieve(model)
    assert shown == listed[model]
    assert (shown.model_extra or {})["dimensions"] == 384


@pytest.fixture
def lame_settings(tmp_path: Path, redis_server: str) -> ApiSettings:
    """Settings of a service whose model has a worker that never does anything."""
    settings = ApiSettings.load(data_dir=tmp_path, redis_url=redis_server, call_timeout=0.3, max_calls=2)
    stores = Stores.on(open_database(Settings.load(data_dir=tmp_path)))
    card = ModelCard(settings.model, "5f1c0de", "float32", 4, 128, 2, "mean", True)
    stores.workers.register(card, new_id(), "millhouse", 4711, "cpu")
    stores.database.close()
    return settings


def test_a_call_that_takes_too_long_is_ended_and_leaves_nothing(lame_settings: ApiSettings) -> None:
    with serving(lame_settings) as lame, lame.http() as http:
        answer = http.post("/v1/embeddings", json={"input": "rye"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "wait_timeout")
        until(lambda: calls_left(lame) == 0)


def test_a_call_whose_last_worker_went_away_says_so(lame_settings: ApiSettings) -> None:
    # Given a call whose only worker goes away in the moment in which it is accepted
    with serving(lame_settings) as lame, lame.http() as http:
        with lame.service.stores.database.write() as connection:
            leaving = "CREATE TRIGGER leaving AFTER INSERT ON jobs BEGIN DELETE FROM workers; END"
            connection.exec_driver_sql(leaving)
        # Then the worker is blamed, and not the number of texts
        answer = http.post("/v1/embeddings", json={"input": "rye"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_unavailable")
        assert "any more" in answer.json()["error"]["message"] and "Retry-After" in answer.headers
        until(lambda: calls_left(lame) == 0)


def test_a_call_that_no_worker_can_hear_of_is_not_waited_for_to_the_end(
    lame_settings: ApiSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a Redis that is not there, and calls that may wait for long
    monkeypatch.setattr(calls, "_UNSENT", 0.3)
    away = {"redis_url": f"unix://{lame_settings.data_dir}/nowhere.sock", "call_timeout": 60}
    with serving(lame_settings.model_copy(update=away)) as lame, lame.http() as http:
        # When somebody calls, then he is told why nothing comes, and when to call again
        answer = http.post("/v1/embeddings", json={"input": "rye"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "queue_unavailable")
        assert "Redis" in answer.json()["error"]["message"] and "Retry-After" in answer.headers
        until(lambda: calls_left(lame) == 0)


def test_a_call_whose_sender_goes_away_leaves_nothing(lame_settings: ApiSettings) -> None:
    patient = lame_settings.model_copy(update={"call_timeout": 60})
    with serving(patient) as lame, lame.http() as http:
        with pytest.raises(httpx.ReadTimeout):
            http.post("/v1/embeddings", json={"input": "rye"}, timeout=httpx.Timeout(60, read=0.5))
        http.close()
        until(lambda: calls_left(lame) == 0)


def test_more_calls_than_may_wait_are_asked_to_come_again(lame_settings: ApiSettings) -> None:
    async def ask(url: str) -> tuple[list[httpx.Response], int]:
        """Call five times at once; return the first three answers, and how many calls wait when these are there."""
        async with httpx.AsyncClient(base_url=url, timeout=100) as http:
            waiting = {asyncio.create_task(http.post("/v1/embeddings", json={"input": "rye"})) for _ in range(5)}
            answers: list[httpx.Response] = []
            while len(answers) < 3:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                answers += [one.result() for one in done]
            for one in waiting:
                one.cancel()
            return answers, len(waiting)

    with serving(lame_settings.model_copy(update={"call_timeout": 90})) as lame:
        answers, waiting = awaited(ask(lame.url))
        assert ([answer.status_code for answer in answers], waiting) == ([429] * 3, 2)
        assert all(answer.headers["Retry-After"] == "1" for answer in answers)
        until(lambda: calls_left(lame) == 0)


def test_two_hundred_calls_at_once_are_all_answered(served: Served, model: str) -> None:
    async def call(http: httpx.AsyncClient, number: int) -> int:
        """Call as OpenAI's client does, which comes again when it is asked to; return the last answer's status."""
        body = {"input": f"grain number {number}", "model": model}
        while (answer := await http.post("/v1/embeddings", json=body)).status_code == 429:
            await asyncio.sleep(float(answer.headers["Retry-After"]))
        return answer.status_code

    async def ask() -> list[int]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=served.url, timeout=100, limits=limits) as http:
            return await asyncio.gather(*(call(http, number) for number in range(200)))

    # On a slow machine those at the end of the line hear that it would take too long
    assert set(awaited(ask())) == {200}
    until(lambda: calls_left(served) == 0)
