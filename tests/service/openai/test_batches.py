"""`/v1/batches`, asked by the `openai` package itself."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openai as sdk
import pytest
from openai import OpenAI
from openai.types import Batch
from sqlalchemy import select

from producer.api.settings import ApiSettings
from storage.contract.ids import new_id
from storage.contract.models import ModelCard
from storage.contract.settings import Settings
from storage.database import open_database
from storage.stores import Stores
from storage.tables import JobRow
from tests.service.serving import Served, serving

FINAL = ("completed", "failed", "expired", "cancelled")


def line(custom_id: str, **body: object) -> dict[str, object]:
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": body}


def start(client: OpenAI, lines: Sequence[object], **options: Any) -> Batch:
    content = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines).encode()
    file = client.files.create(file=("batch.jsonl", content), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/embeddings", completion_window=options.pop("window", "24h"), **options
    )


def ended(client: OpenAI, batch: Batch, seconds: float = 60) -> Batch:
    deadline = time.monotonic() + seconds
    while batch.status not in FINAL:
        assert time.monotonic() < deadline, batch
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    return batch


def content(client: OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    if file_id is None:
        return []
    return [json.loads(one) for one in client.files.content(file_id).text.splitlines()]


def vectors_of_a_job(served: Served, texts: list[str], **options: object) -> np.ndarray:
    job = served.service.client.submit(texts, **options)
    job.wait(60)
    return job.vectors()


def test_a_batch_of_lists_and_dimensions_and_options_goes_from_upload_to_output(
    openai: OpenAI, served: Served, model: str
) -> None:
    # Given lines with one text and several, whole vectors and cut ones, numbers and base64, and two kinds of pooling
    batch = start(
        openai,
        [
            line("one", model=model, input="wheat", encoding_format="float"),
            line("many", model=model, input=["rye", "barley", "oats"], dimensions=64),
            line("packed", model=model, input=["spelt"], encoding_format="base64"),
            line("first token", input="millet", pooling="cls"),
        ],
        metadata={"mill": "north"},
    )
    assert (batch.status, batch.metadata, batch.endpoint) == ("validating", {"mill": "north"}, "/v1/embeddings")
    # When it has ended
    done = ended(openai, batch)
    # Then it says so
    assert done.status == "completed" and done.error_file_id is None and done.errors is None
    assert done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (4, 4, 0)
    moments = (done.created_at, done.in_progress_at, done.finalizing_at, done.completed_at)
    assert list(moments) == sorted(moment for moment in moments if moment is not None)
    assert done.expires_at == done.created_at + 24 * 3600
    assert done.usage is not None and done.usage.total_tokens > 0
    assert done.model == model
    # And its output holds the vectors of a job
    lines = {one["custom_id"]: one for one in content(openai, done.output_file_id)}
    assert list(lines) == ["one", "many", "packed", "first token"]
    bodies = {name: one["response"]["body"] for name, one in lines.items()}
    told = {name: [one["embedding"] for one in body["data"]] for name, body in bodies.items()}
    assert np.allclose(told["one"], vectors_of_a_job(served, ["wheat"]), atol=1e-6)
    wanted = vectors_of_a_job(served, ["rye", "barley", "oats"], dimensions=64)
    assert np.allclose(told["many"], wanted, atol=1e-6)
    packed = np.frombuffer(base64.b64decode(told["packed"][0]), dtype="<f4")
    assert np.allclose(packed, vectors_of_a_job(served, ["spelt"])[0], atol=1e-6)
    assert np.allclose(told["first token"], vectors_of_a_job(served, ["millet"], pooling="cls"), atol=1e-6)
    assert all(one["response"]["status_code"] == 200 and one["error"] is None for one in lines.values())
    assert len({one["response"]["request_id"] for one in lines.values()}) == 4
    assert bodies["one"]["model"] == model and bodies["one"]["usage"]["total_tokens"] == 3
    # And the file is one of the caller's, of the size that it is said to be
    file = openai.files.retrieve(done.output_file_id or "")
    assert file.purpose == "batch_output" and file.bytes == len(openai.files.content(file.id).read())
    # And nothing is left of its jobs
    with served.service.stores.database.read() as connection:
        own = select(JobRow.id).where(JobRow.idempotency_key.startswith(f"{batch.id}:"))
        assert connection.execute(own).all() == []


def test_lines_that_fail_stand_in_the_error_file_and_all_together_in_one_of_both(openai: OpenAI, model: str) -> None:
    long = "wheat " * 600
    batch = start(
        openai,
        [
            line("good", model=model, input="wheat"),
            line("blank", model=model, input=["rye", " "]),
            line("long", model=model, input=long, on_long="error"),
            "",
        ],
    )
    done = ended(openai, batch)
    assert done.status == "completed" and done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (3, 1, 2)
    assert [one["custom_id"] for one in content(openai, done.output_file_id)] == ["good"]
    failed = {one["custom_id"]: one["response"] for one in content(openai, done.error_file_id)}
    assert failed["blank"]["status_code"] == 400
    assert failed["blank"]["body"]["error"]["message"].startswith("input 1:")
    assert "the text is blank" in failed["blank"]["body"]["error"]["message"]
    assert failed["long"]["body"]["error"]["code"] == "too_long"


def test_a_batch_without_a_single_success_has_no_output_file(openai: OpenAI) -> None:
    done = ended(openai, start(openai, [line("blank", input=" ")]))
    assert (done.status, done.output_file_id) == ("completed", None)
    assert len(content(openai, done.error_file_id)) == 1


def test_every_bad_line_is_reported_with_its_number_and_nothing_is_done(openai: OpenAI, served: Served) -> None:
    batch = start(
        openai,
        [
            line("good", input="wheat"),
            "{",
            "[]",
            line("good", input="rye"),
            line("url", input="rye") | {"url": "/v1/chat/completions"},
            line("method", input="rye") | {"method": "GET"},
            {"custom_id": "body", "method": "POST", "url": "/v1/embeddings"},
            line("", input="rye"),
            line("model", input="rye", model="mill/nowhere"),
            line("tokens", input=[1, 2]),
            line("width", input="rye", dimensions=10_000),
        ],
    )
    failed = ended(openai, batch)
    assert failed.status == "failed" and failed.failed_at is not None
    assert failed.errors is not None and failed.errors.data is not None
    assert [(one.line, one.code) for one in failed.errors.data] == [
        (2, "invalid_json_line"),
        (3, "invalid_json_line"),
        (4, "duplicate_custom_id"),
        (5, "invalid_url"),
        (6, "invalid_method"),
        (7, "invalid_body"),
        (8, "missing_custom_id"),
        (9, "unknown_model"),
        (10, "invalid_option"),
        (11, "invalid_option"),
    ]
    assert failed.output_file_id is None and failed.error_file_id is None
    with pytest.raises(sdk.ConflictError):
        openai.batches.cancel(batch.id)


def test_an_empty_file_fails(openai: OpenAI) -> None:
    failed = ended(openai, start(openai, ["", " "]))
    assert failed.errors is not None and failed.errors.data is not None
    assert [one.code for one in failed.errors.data] == ["empty_file"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"endpoint": "/v1/chat/completions"},
        {"completion_window": "0h"},
        {"completion_window": "169h"},
        {"completion_window": "soon"},
        {"metadata": {str(number): "" for number in range(17)}},
        {"metadata": {"k" * 65: ""}},
        {"metadata": {"k": "v" * 513}},
        {"metadata": {"k": "\0"}},
        {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
    ],
)
def test_a_batch_that_cannot_be_done_is_refused_at_once(openai: OpenAI, wrong: dict[str, Any]) -> None:
    file = openai.files.create(file=("b.jsonl", b"{}"), purpose="batch")
    given: dict[str, Any] = {"input_file_id": file.id, "endpoint": "/v1/embeddings", "completion_window": "24h"}
    with pytest.raises(sdk.BadRequestError):
        openai.batches.create(**(given | wrong))


def test_ids_that_nobody_has_are_not_found(openai: OpenAI) -> None:
    with pytest.raises(sdk.NotFoundError):
        openai.batches.create(input_file_id="file-1", endpoint="/v1/embeddings", completion_window="24h")
    for batch_id in ("batch_" + "0" * 32, "x"):
        with pytest.raises(sdk.NotFoundError):
            openai.batches.retrieve(batch_id)
        with pytest.raises(sdk.NotFoundError):
            openai.batches.cancel(batch_id)


def test_batches_are_listed_page_by_page(openai: OpenAI) -> None:
    made = [start(openai, ["{"]).id for _ in range(5)]
    listed = [batch.id for batch in openai.batches.list(limit=2)]
    assert listed[:5] == made[::-1]
    page = openai.batches.list(limit=2, after=made[3])
    assert [batch.id for batch in page.data] == [made[2], made[1]] and page.has_more


@pytest.fixture
def idle(tmp_path: Path) -> ApiSettings:
    """Settings of a service two of whose models have a worker that never does anything."""
    settings = ApiSettings.load(data_dir=tmp_path)
    stores = Stores.on(open_database(Settings.load(data_dir=tmp_path)))
    for name in (settings.model, "mill/flour"):
        card = ModelCard(name, "5f1c0de", "float32", 4, 128, 2, "mean", True)
        stores.workers.register(card, new_id(), "millhouse", 4711, "cpu")
    stores.database.close()
    return settings


def client_of(service: Served) -> OpenAI:
    return OpenAI(base_url=f"{service.url}/v1", api_key="x", max_retries=0, _strict_response_validation=True)


MIXED = [line("a", input=["wheat", "rye"]), line("b", input="oats", model="mill/flour"), line("c", input="spelt")]


def in_progress(client: OpenAI, batch: Batch) -> Batch:
    deadline = time.monotonic() + 60
    while batch.status != "in_progress":
        assert time.monotonic() < deadline and batch.status == "validating", batch
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    return batch


def test_a_cancelled_batch_keeps_what_was_done_and_names_the_rest(idle: ApiSettings) -> None:
    with serving(idle) as service, client_of(service) as client:
        # Given a batch of two models that is under way
        batch = in_progress(client, start(client, MIXED))
        assert batch.request_counts is not None and batch.request_counts.total == 3
        assert batch.model is None
        # When it is cancelled, twice
        assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
        done = ended(client, batch)
        assert client.batches.cancel(batch.id).status == "cancelled"
        # Then each line is told of
        assert done.status == "cancelled" and done.cancelling_at is not None and done.cancelled_at is not None
        assert done.output_file_id is None
        told = content(client, done.error_file_id)
        assert [(one["custom_id"], one["error"]["code"], one["response"]) for one in told] == [
            (custom_id, "batch_cancelled", None) for custom_id in "abc"
        ]


def test_a_batch_whose_time_is_over_expires(idle: ApiSettings) -> None:
    with serving(idle) as service, client_of(service) as client:
        batch = in_progress(client, start(client, MIXED, window="1h"))
        assert batch.expires_at == batch.created_at + 3600
        # When an hour passes
        with service.service.stores.database.write() as connection:
            connection.exec_driver_sql("UPDATE batches SET expires_at = expires_at - 3600000")
        done = ended(client, batch)
        assert done.status == "expired" and done.expired_at is not None
        assert {one["error"]["code"] for one in content(client, done.error_file_id)} == {"batch_expired"}
        assert done.request_counts is not None and done.request_counts.failed == 3


def test_a_batch_that_a_killed_process_left_is_taken_up_and_its_jobs_are_made_once(idle: ApiSettings) -> None:
    # Given a process that was killed after it had made a batch's two jobs and before it noted so
    with serving(idle) as service, client_of(service) as client:
        batch = in_progress(client, start(client, MIXED))
        jobs = [group.job_id for group in service.service.stores.batches.groups(batch.id)]
    stores = Stores.open(idle)
    with stores.database.write() as connection:
        connection.exec_driver_sql("UPDATE batches SET state = 'validating', in_progress_at = NULL")
        connection.exec_driver_sql("UPDATE batch_groups SET job_id = NULL")
    stores.database.close()
    # When another one starts
    with serving(idle) as service, client_of(service) as client:
        again = in_progress(client, client.batches.retrieve(batch.id))
        # Then the batch goes on, with the same jobs
        assert None not in jobs
        assert [group.job_id for group in service.service.stores.batches.groups(again.id)] == jobs
