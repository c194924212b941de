"""`POST /v1/tokens`: BERT's flow made visible, the same as `embedmill tokens`."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from storage.contract.models import DEFAULT_MODEL
from worker.engine.checkpoint import resolve
from worker.engine.tokenizing import Tokenizer

TEXT = "Unaffable millers don't grind 磨坊在河边。"


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="as it is"),
        pytest.param({"max_length": 8}, id="cut"),
        pytest.param({"max_length": 64, "padding": "max_length"}, id="filled up"),
        pytest.param({"prompt": "The miller says: "}, id="with a prompt"),
        pytest.param({"padding": "max_length", "model": DEFAULT_MODEL}, id="filled up to the model's own"),
    ],
)
def test_a_text_is_shown_as_the_command_line_shows_it(http: httpx.Client, options: dict[str, Any]) -> None:
    answer = http.post("/v1/tokens", json={"text": TEXT} | options)
    assert answer.status_code == 200
    # Then it is what `embedmill tokens --json` prints, and whose tokens they are
    checkpoint = resolve(DEFAULT_MODEL)
    shown = Tokenizer(checkpoint).describe(
        options.get("prompt", "") + TEXT,
        options.get("max_length", checkpoint.max_length),
        options.get("padding", "longest"),
    )
    expected = {"pieces": shown.pieces, "ids": shown.ids, "mask": shown.mask}
    expected |= {"length": shown.length, "truncated": shown.truncated}
    assert answer.json() == {"model": DEFAULT_MODEL} | expected


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        pytest.param({}, 400, "invalid_request", id="no text"),
        pytest.param({"text": 5}, 400, "invalid_request", id="a number"),
        pytest.param({"text": None}, 400, "invalid_request", id="null"),
        pytest.param({"text": "canary", "colour": "red"}, 400, "invalid_request", id="unknown field"),
        pytest.param({"text": "canary", "max_length": "8"}, 400, "invalid_request", id="a length as a text"),
        pytest.param({"text": "canary", "max_length": True}, 400, "invalid_request", id="a length as a truth value"),
        pytest.param({"text": "canary", "max_length": 2}, 400, "invalid_request", id="no room for a piece"),
        pytest.param({"text": "canary", "max_length": 10**30}, 400, "invalid_option", id="longer than the model reads"),
        pytest.param({"text": "canary", "prompt_name": "question"}, 400, "invalid_option", id="unknown prompt"),
        pytest.param({"text": "canary", "prompt": "a", "prompt_name": "b"}, 400, "invalid_option", id="two prompts"),
        pytest.param({"text": "canary", "padding": "cotton"}, 400, "invalid_request", id="unknown padding"),
        pytest.param({"text": "canary", "model": "mill/unheard-of"}, 404, "unknown_model", id="unknown model"),
        pytest.param({"text": "canary", "model": "a\0b"}, 400, "invalid_option", id="NUL in a name"),
        pytest.param({"text": "canary" * 200_000}, 413, "too_large", id="too long"),
    ],
)
def test_what_cannot_be_shown_is_refused_and_not_repeated(
    http: httpx.Client, body: dict[str, Any], status: int, code: str
) -> None:
    answer = http.post("/v1/tokens", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert "canary" not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(rb'{"text": "\ud800"}', id="a lone surrogate"),
        pytest.param(b'{"text": "\xff"}', id="no UTF-8"),
        pytest.param(b'{"text": "mill', id="cut off"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"[]", id="no object"),
    ],
)
def test_bodies_that_are_no_request_are_refused(http: httpx.Client, body: bytes) -> None:
    answer = http.post("/v1/tokens", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] in ("invalid_request", "invalid_option")
