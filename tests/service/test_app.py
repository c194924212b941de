from __future__ import annotations

import httpx


def test_the_document_of_the_service_is_there_and_says_what_it_is(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    assert document["info"]["title"] == "Embedmill"


def test_what_is_not_there_is_answered_in_our_form(http: httpx.Client) -> None:
    answer = http.get("/nowhere")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
