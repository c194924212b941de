"""The dialect of text-embeddings-inference: the same vectors as everywhere, its forms, its errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from producer.api.settings import ApiSettings
from storage.contract.models import DEFAULT_MODEL
from tests.service.serving import Served, serving
from worker.engine.checkpoint import resolve
from worker.engine.tokenizing import Tokenizer

TEXTS = ["The kettle has been singing.", "磨坊在河边。", "wheat", "wheat"]
LONG = "river " * 400


def embedded(served: Served, texts: list[str], **options: Any) -> NDArray[np.float32]:
    """Embed texts as an ordinary job."""
    job = served.service.client.submit(texts, priority="urgent", **options)
    job.wait(60)
    vectors = job.vectors()
    job.delete()
    return vectors


@pytest.mark.parametrize("path", ["/embed", "/", "/invocations"])
def test_vectors_are_those_of_a_job(http: httpx.Client, served: Served, path: str) -> None:
    # Given texts, when embedded in a call and as a job
    listed = served.service.stores.jobs.list_ids()
    answer = http.post(path, json={"inputs": TEXTS})
    # Then the vectors are the same, to the last bit
    assert answer.status_code == 200
    vectors = np.array(answer.json(), dtype=np.float32)
    np.testing.assert_array_equal(vectors, embedded(served, TEXTS, normalize=True))
    # And what it took is told
    assert int(answer.headers["x-compute-characters"]) == sum(map(len, TEXTS))
    assert int(answer.headers["x-compute-tokens"]) > len(TEXTS) and int(answer.headers["x-total-time"]) > 0
    # And the call leaves no job behind that is listed
    assert served.service.stores.jobs.list_ids() == listed


def test_a_single_text_gets_a_list_of_one_vector(http: httpx.Client) -> None:
    answer = http.post("/embed", json={"inputs": "wheat"})
    assert np.array(answer.json()).shape == (1, 384)


@pytest.mark.parametrize(
    ("sent", "options"),
    [
        pytest.param({"normalize": False}, {"normalize": False}, id="not normalised"),
        pytest.param({"dimensions": 64}, {"normalize": True, "dimensions": 64}, id="Matryoshka"),
        pytest.param({"truncate": True, "truncation_direction": "Right"}, {"normalize": True}, id="cut at the right"),
        pytest.param({"truncation_direction": "right", "encoding_format": "float"}, {"normalize": True}, id="small"),
    ],
)
def test_options_mean_what_they_mean_for_a_job(
    http: httpx.Client, served: Served, sent: dict[str, Any], options: dict[str, Any]
) -> None:
    answer = http.post("/embed", json={"inputs": [*TEXTS, LONG]} | sent)
    np.testing.assert_array_equal(np.array(answer.json(), np.float32), embedded(served, [*TEXTS, LONG], **options))
    assert answer.headers["x-embedmill-truncated"] == "1"


@pytest.mark.parametrize("path", ["/embed", "/"])
@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        pytest.param({}, 422, "Validation", id="no inputs"),
        pytest.param({"inputs": 5}, 422, "Validation", id="a number"),
        pytest.param({"inputs": []}, 400, "Empty", id="nothing"),
        pytest.param({"inputs": ["wheat", ""]}, 400, "Empty", id="an empty text"),
        pytest.param({"inputs": " \n"}, 400, "Empty", id="a blank text"),
        pytest.param({"inputs": ["wheat", "\u200b"]}, 413, "Validation", id="a text of which nothing is kept"),
        pytest.param({"inputs": ["wheat"] * 2049}, 413, "Validation", id="too many"),
        pytest.param({"inputs": LONG, "truncate": False}, 413, "Validation", id="too long and not to be cut"),
        pytest.param({"inputs": "canary" * 200_000}, 413, "Validation", id="too long at all"),
        pytest.param({"inputs": [101, 2054, 102]}, 422, "Validation", id="ids"),
        pytest.param({"inputs": [[101, 2054], [102]]}, 422, "Validation", id="lists of ids"),
        pytest.param({"inputs": "canary", "truncation_direction": "Left"}, 422, "Validation", id="cut at the left"),
        pytest.param({"inputs": "canary", "truncation_direction": "Up"}, 422, "Validation", id="no direction"),
        pytest.param({"inputs": "canary", "prompt_name": "question"}, 422, "Validation", id="unknown prompt"),
        pytest.param({"inputs": "canary", "prompt_name": "a\0b"}, 422, "Validation", id="NUL in a prompt's name"),
        pytest.param({"inputs": "canary", "dimensions": 385}, 422, "Validation", id="too many dimensions"),
        pytest.param({"inputs": "canary", "dimensions": 0}, 422, "Validation", id="no dimensions"),
        pytest.param({"inputs": "canary", "dimensions": True}, 422, "Validation", id="dimensions as a truth value"),
        pytest.param({"inputs": "canary", "normalize": "yes"}, 422, "Validation", id="normalize as a text"),
        pytest.param({"inputs": "canary", "encoding_format": "base64"}, 422, "Validation", id="base64"),
        pytest.param({"inputs": "canary", "colour": "red"}, 422, "Validation", id="unknown field"),
    ],
)
def test_what_cannot_be_embedded_is_refused_in_their_form(
    http: httpx.Client, path: str, body: dict[str, Any], status: int, kind: str
) -> None:
    answer = http.post(path, json=body)
    assert (answer.status_code, answer.json()["error_type"]) == (status, kind)
    assert list(answer.json()) == ["error", "error_type"] and "canary" not in answer.text


def test_refusals_name_what_to_do(http: httpx.Client) -> None:
    def told(**body: Any) -> str:
        return str(http.post("/embed", json=body).json()["error"])

    assert "token ids are not taken" in told(inputs=[1, 2])
    assert "cuts long texts at the right" in told(inputs="wheat", truncation_direction="Left")
    assert "402 tokens, more than 256" in told(inputs=LONG, truncate=False)
    assert "batch size 3000 > maximum allowed batch size 2048" in told(inputs=["wheat"] * 3000)


@pytest.mark.parametrize("path", ["/embed", "/", "/embed_all", "/tokenize", "/decode"])
@pytest.mark.parametrize(
    "body", [rb'{"inputs": "\ud800"}', b'{"inputs": "\xff"}', b'{"inputs": "mill', b"", b"[]", b"null", b"5"]
)
def test_bodies_that_are_no_request_are_refused(http: httpx.Client, path: str, body: bytes) -> None:
    answer = http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422) and answer.json()["error_type"] == "Validation"


@pytest.mark.parametrize(("method", "path"), [("GET", "/embed"), ("PUT", "/info"), ("DELETE", "/tokenize")])
def test_another_method_is_refused_in_their_form(http: httpx.Client, method: str, path: str) -> None:
    answer = http.request(method, path)
    assert answer.status_code == 405 and answer.json()["error_type"] == "Validation"


def test_tokens_are_told_with_their_places_and_lead_back_to_the_text(http: httpx.Client) -> None:
    # Given a text of two languages, when tokenized
    text = "Unaffable millers: 磨坊 𝕊"
    (tokens,) = http.post("/tokenize", json={"inputs": text}).json()
    # Then the ids are those that are embedded
    tokenizer = Tokenizer(resolve(DEFAULT_MODEL))
    assert [token["id"] for token in tokens] == tokenizer.describe(text, 256).ids
    # And each says where it stands
    assert tokens[0] == {"id": 101, "text": "[CLS]", "special": True, "start": None, "stop": None}
    assert all(token["text"] == text[token["start"] : token["stop"]] for token in tokens if not token["special"])
    # And without special tokens only these are told; nothing is cut
    inner, longer = http.post("/tokenize", json={"inputs": [text, LONG], "add_special_tokens": False}).json()
    assert inner == tokens[1:-1] and len(longer) == 400
    # And ids lead back
    ids = [token["id"] for token in tokens if token["text"] != ":"]
    (back,) = http.post("/decode", json={"ids": ids}).json()
    assert back.startswith("unaffable millers")
    assert http.post("/decode", json={"ids": [[101, 1996, 102]]}).json() == ["the"]
    kept = http.post("/decode", json={"ids": [101, 1996, 102], "skip_special_tokens": False})
    assert kept.json() == ["[CLS] the [SEP]"]


@pytest.mark.parametrize(("path", "name"), [("/tokenize", "inputs"), ("/v1/tokens", "text")])
def test_answers_of_tokens_share_their_memory(http: httpx.Client, served: Served, path: str, name: str) -> None:
    # Given a service whose memory for tokens is taken by the longest text that it takes
    with served.service.tokens_room.held(served.service.settings.max_text_bytes):
        # When another one comes, then it is asked to come again, while a short one is answered
        answer = http.post(path, json={name: "mill " * 10_000})
        assert answer.status_code == 429 and int(answer.headers["Retry-After"]) > 0
        assert http.post(path, json={name: "mill"}).status_code == 200
    # And then there is room
    assert http.post(path, json={name: "mill " * 10_000}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        pytest.param("/tokenize", {"inputs": []}, 400, id="no texts"),
        pytest.param("/tokenize", {"inputs": ["a"] * 2049}, 413, id="too many texts"),
        pytest.param("/tokenize", {"inputs": ["canary" * 100_000] * 2}, 413, id="too much text"),
        pytest.param("/tokenize", {"inputs": "a " * 300_000}, 413, id="too many tokens"),
        pytest.param("/tokenize", {"inputs": "canary", "prompt_name": "question"}, 422, id="unknown prompt"),
        pytest.param("/tokenize", {"inputs": [101]}, 422, id="ids for texts"),
        pytest.param("/decode", {"ids": []}, 400, id="no ids"),
        pytest.param("/decode", {"ids": [[1]] * 2049}, 413, id="too many lists of ids"),
        pytest.param("/decode", {"ids": [4_000_000]}, 422, id="an id that no token has"),
        pytest.param("/decode", {"ids": [-1]}, 422, id="a negative id"),
        pytest.param("/decode", {"ids": [1, [2]]}, 422, id="ids and lists of ids"),
        pytest.param("/decode", {"ids": "canary"}, 422, id="a text for ids"),
    ],
)
def test_what_cannot_be_tokenized_or_decoded_is_refused(
    http: httpx.Client, path: str, body: dict[str, Any], status: int
) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code == status and list(answer.json()) == ["error", "error_type"]
    assert "canary" not in answer.text


def test_the_service_tells_what_it_serves_and_its_limits(http: httpx.Client) -> None:
    info = http.get("/info").json()
    checkpoint = resolve(DEFAULT_MODEL)
    assert (info["model_id"], info["model_sha"]) == (DEFAULT_MODEL, checkpoint.revision)
    assert info["model_type"] == {"embedding": {"pooling": "mean"}} and info["model_dtype"] == "float32"
    assert (info["max_input_length"], info["max_client_batch_size"]) == (checkpoint.max_length, 2048)
    assert info["auto_truncate"] is True and info["tokenization_workers"] == 1
    health = http.get("/health")
    assert (health.status_code, health.content) == (200, b"")


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service whose model nobody has ever served."""
    folder: Path = tmp_path_factory.mktemp("idle")
    with serving(ApiSettings.load(data_dir=folder)) as served, served.http() as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/health", None),
        ("GET", "/info", None),
        ("POST", "/embed", {"inputs": "wheat"}),
        ("POST", "/", {"inputs": "wheat"}),
        ("POST", "/embed_all", {"inputs": "wheat"}),
        ("POST", "/tokenize", {"inputs": "wheat"}),
        ("POST", "/decode", {"ids": [101]}),
    ],
)
def test_without_a_worker_the_service_says_so_at_once(
    idle: httpx.Client, method: str, path: str, body: dict[str, Any] | None
) -> None:
    answer = idle.request(method, path, json=body)
    assert (answer.status_code, answer.json()["error_type"]) == (503, "Unhealthy")
    assert "embedmill" in answer.json()["error"] or "Submit a job" in answer.json()["error"]
    assert int(answer.headers["Retry-After"]) > 0


def told(http: httpx.Client, name: str) -> float:
    (line,) = [line for line in http.get("/metrics").text.splitlines() if line.startswith(f"{name} ")]
    return float(line.rsplit(" ", 1)[1])


def test_what_is_refused_for_want_of_a_worker_is_counted_apart_and_probes_are_not(
    idle: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a service without a worker
    name = "embedmill_http_unserved_total"
    before = told(idle, name)
    # When it is asked how it is, again and again, then that is no refusal, and fills no log
    with caplog.at_level("INFO"):
        assert {idle.get(path).status_code for path in ("/health", "/ping", "/readyz") * 3} == {503}
    assert told(idle, name) == before
    assert [one.message for one in caplog.records if one.name.startswith("producer.api")] == []
    # When callers ask for vectors in each dialect, then those are, and are told
    with caplog.at_level("INFO"):
        asked = {"/v1/embeddings": "input", "/embed": "inputs", "/": "inputs"}
        assert {idle.post(path, json={field: "wheat"}).status_code for path, field in asked.items()} == {503}
    assert told(idle, name) == before + 3
    assert "/v1/embeddings answered 503" in caplog.messages
    # And what a caller has done wrong is not
    assert idle.post("/embed", json={"inputs": []}).status_code in (400, 422)
    assert told(idle, name) == before + 3
