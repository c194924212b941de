"""`/embed_all`: the states of all tokens, those of plain transformers, through the whole stack."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from producer.api import teiembed
from producer.api.answerroom import MOST_NUMBERS, MOST_NUMBERS_AT_ONCE, AnswerRoom
from storage.contract.errors import InvalidOption, Overloaded
from storage.contract.models import DEFAULT_MODEL
from storage.quotas import Quota
from tests.acceptance.shell import until
from tests.service.serving import Served
from worker.engine.checkpoint import resolve

TEXTS = ["The kettle has been singing.", "磨坊在河边。", "wheat", "wheat"]
LONG = "river " * 400


def states(answer: httpx.Response) -> list[NDArray[np.float32]]:
    """Return the states of an answer, text by text."""
    assert answer.status_code == 200, answer.text[:500]
    return [np.array(text, dtype=np.float32) for text in answer.json()]


def until_free(served: Served) -> None:
    """Wait until no answer takes up room, and fail when that does not come."""
    deadline = time.monotonic() + 90
    while served.service.states_room._taken:
        assert time.monotonic() < deadline, "an answer's room was never given back"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def theirs() -> Any:
    """Plain transformers: a text's last hidden states."""
    folder = resolve(DEFAULT_MODEL).transformer
    tokenizer, network = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    def last_states(text: str) -> NDArray[np.float32]:
        with torch.inference_mode():
            given = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
            found: NDArray[np.float32] = network(**given).last_hidden_state[0].numpy()
            return found

    return last_states


def test_states_are_those_of_transformers_alone_and_in_company(http: httpx.Client, theirs: Any) -> None:
    # Given texts of several lengths, when their states are asked for together
    answer = http.post("/embed_all", json={"inputs": [*TEXTS, LONG]})
    together = states(answer)
    # Then each text has those that transformers gives it, special tokens too
    for found, text in zip(together, [*TEXTS, LONG], strict=True):
        np.testing.assert_allclose(found, theirs(text), atol=1e-4, rtol=0)
    # And alone it has the same
    for found, text in zip(together, TEXTS, strict=False):
        (alone,) = states(http.post("/embed_all", json={"inputs": text}))
        np.testing.assert_allclose(found, alone, atol=1e-5, rtol=0)
    # And what was cut, and what it took, is told
    assert together[-1].shape == (256, 384) and answer.headers["x-embedmill-truncated"] == "1"
    assert int(answer.headers["x-compute-tokens"]) == sum(map(len, together))
    assert int(answer.headers["x-compute-characters"]) == sum(map(len, [*TEXTS, LONG]))


def test_their_mean_is_the_vector_that_embed_answers(http: httpx.Client) -> None:
    means = np.stack([text.mean(0) for text in states(http.post("/embed_all", json={"inputs": TEXTS}))])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    vectors = np.array(http.post("/embed", json={"inputs": TEXTS}).json(), dtype=np.float32)
    np.testing.assert_allclose(means, vectors, atol=1e-5, rtol=0)


def test_a_call_leaves_nothing_behind_and_no_other_has_states(http: httpx.Client, served: Served) -> None:
    kept = served.service.stores.jobs.list_ids()
    states(http.post("/embed_all", json={"inputs": TEXTS}))
    assert served.service.stores.jobs.list_ids() == kept
    until_free(served)
    # Whoever asks for them elsewhere is told where they are
    for path, body in (("/v1/embeddings", {"input": "wheat"}), ("/v1/jobs", {"texts": ["wheat"]})):
        answer = http.post(path, json=body | {"pooling": "none"})
        assert answer.status_code == 400 and "pooling" in answer.json()["error"]["message"]
    with pytest.raises(InvalidOption, match="POST /embed_all"):
        served.service.client.submit(["wheat"], pooling="none")


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        pytest.param({}, 422, "Validation", id="no inputs"),
        pytest.param({"inputs": []}, 400, "Empty", id="nothing"),
        pytest.param({"inputs": ["wheat", " "]}, 400, "Empty", id="a blank text"),
        pytest.param({"inputs": ["wheat"] * 2049}, 413, "Validation", id="too many"),
        pytest.param({"inputs": LONG, "truncate": False}, 413, "Validation", id="too long and not to be cut"),
        pytest.param({"inputs": "canary" * 200_000}, 413, "Validation", id="too long at all"),
        pytest.param({"inputs": ["canary" * 200_000] * 3 + ["a"] * 40}, 413, "Validation", id="several too long"),
        pytest.param({"inputs": [101, 2054, 102]}, 422, "Validation", id="ids"),
        pytest.param({"inputs": "canary", "truncation_direction": "Left"}, 422, "Validation", id="cut at the left"),
        pytest.param({"inputs": "canary", "prompt_name": "question"}, 422, "Validation", id="unknown prompt"),
        pytest.param({"inputs": ["canary"] * 99, "prompt_name": "question"}, 422, "Validation", id="and counted"),
        pytest.param({"inputs": "canary", "normalize": True}, 422, "Validation", id="normalised"),
        pytest.param({"inputs": "canary", "dimensions": 4}, 422, "Validation", id="cut"),
        pytest.param({"inputs": "canary", "colour": "red"}, 422, "Validation", id="unknown field"),
    ],
)
def test_what_cannot_be_done_is_refused_in_their_form(
    http: httpx.Client, served: Served, body: dict[str, Any], status: int, kind: str
) -> None:
    answer = http.post("/embed_all", json=body)
    assert (answer.status_code, answer.json()["error_type"]) == (status, kind)
    assert list(answer.json()) == ["error", "error_type"] and "canary" not in answer.text
    until_free(served)


def test_an_answer_that_would_be_too_large_is_refused_before_any_work(
    http: httpx.Client, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given texts whose states are more than an answer may hold, and nobody who would submit them
    monkeypatch.setattr(served.service.client, "submit_records", None)
    answer = http.post("/embed_all", json={"inputs": [LONG] * 171})
    # Then they are refused with the limit and what fits
    assert (answer.status_code, answer.json()["error_type"]) == (413, "Validation")
    assert f"more than {MOST_NUMBERS:,} numbers" in answer.json()["error"]
    assert "170 always fit" in answer.json()["error"]


def test_many_short_texts_are_no_large_answer(http: httpx.Client) -> None:
    found = states(http.post("/embed_all", json={"inputs": ["wheat"] * 600}))
    assert len(found) == 600 and all(np.array_equal(text, found[0]) for text in found)


def test_answers_share_their_room(http: httpx.Client, served: Served) -> None:
    # Given a service whose room is taken by answers that others read slowly
    room = served.service.states_room
    room.take(4 * MOST_NUMBERS - 1000)
    try:
        answer = http.post("/embed_all", json={"inputs": "wheat"})
        # Then one more is asked to come again, and takes no room
        assert (answer.status_code, answer.json()["error_type"]) == (429, "Overloaded")
        assert int(answer.headers["retry-after"]) > 0
    finally:
        room.leave(4 * MOST_NUMBERS - 1000)
    assert states(http.post("/embed_all", json={"inputs": "wheat"}))


def test_a_reader_who_leaves_gives_his_room_back(http: httpx.Client, served: Served) -> None:
    # Given an answer that is larger than what a connection holds, of which only the beginning is read
    with http.stream("POST", "/embed_all", json={"inputs": [LONG] * 40}) as answer:
        assert answer.status_code == 200 and next(answer.iter_bytes(1000)).startswith(b"[[[")
        assert served.service.states_room._taken == 40 * 256 * 384
    # Then its room is free again
    until_free(served)


def test_a_reader_who_hardly_reads_does_not_keep_his_room(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given little patience with readers, and an answer of some 20 MB
    monkeypatch.setattr(teiembed, "_PATIENCE", 0.5)
    monkeypatch.setattr(teiembed, "_SLOWEST", 1e9)
    body = json.dumps({"inputs": [LONG] * 20}).encode()
    head = (
        f"POST /embed_all HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    )
    place = httpx.URL(served.url)
    with socket.create_connection((place.host, place.port or 80), 60) as wire:
        # When somebody asks for it and reads but its beginning
        wire.sendall(head.encode() + b"\r\n\r\n" + body)
        assert wire.recv(12) == b"HTTP/1.1 200"
        # Then others have its room soon, and he sees that it was cut off: its last piece does not come
        until_free(served)
        told = b""
        while block := wire.recv(1 << 20):
            told = (told + block)[-10:]
        assert not told.endswith(b"0\r\n\r\n")


def test_room_is_never_more_than_there_is() -> None:
    room = AnswerRoom(MOST_NUMBERS_AT_ONCE)
    for _ in range(4):
        room.take(MOST_NUMBERS)
    with pytest.raises(Overloaded):
        room.take(1)
    room.leave(MOST_NUMBERS)
    room.take(MOST_NUMBERS)


@pytest.mark.parametrize("path", ["/embed", "/embed_all"])
def test_the_tokens_of_states_are_settled_as_those_of_vectors(keyed: Served, path: str) -> None:
    def wait_after_a_call() -> int:
        # Given a key for 60 tokens a minute, when it has asked for 768: what was cut is not among them
        _, key = keyed.service.stores.keys.create(path, ["embed"], quota=Quota(tokens_per_minute=60))
        with keyed.http(key) as http:
            assert http.post(path, json={"inputs": [LONG, LONG + "x", LONG + "y"]}).status_code == 200
            refused = http.post(path, json={"inputs": "wheat"})
        assert refused.status_code == 429
        return int(refused.headers["retry-after"])

    # Then it owes those, and not the 2,000 of the estimate, as soon as the worker knows that some key has a limit
    until(lambda: wait_after_a_call() <= 740, "the tokens to be settled")
