"""The interactive description of the API."""

from __future__ import annotations

import re
from typing import Any

import httpx
import jsonschema
import pytest


def test_the_description_shows_every_route_and_loads_nothing_from_elsewhere(http: httpx.Client) -> None:
    # Given the OpenAPI document
    document = http.get("/openapi.json").json()
    # When the description is opened
    answer = http.get("/docs")
    # Then each operation is on it
    assert answer.status_code == 200 and answer.headers["Content-Type"].startswith("text/html")
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert f'id="{operation["operationId"]}"' in answer.text, path
    # And whatever it loads is our own, and no script stands in the page itself
    loaded = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
    assert loaded and all(address.startswith("/") and not address.startswith("//") for address in loaded)
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    assert (
        re.findall(r"<script[^>]*>([^<]*)</script>", answer.text) == [""]
        and " on" not in answer.text.split("<body>")[0]
    )
    for address in ("/docs/docs.js", "/docs/docs.css"):
        asset = http.get(address)
        assert asset.status_code == 200 and "http" not in asset.text


@pytest.mark.parametrize(
    ("path", "field", "rest"),
    [
        ("/v1/jobs", "labels", {"texts": ["wheat"]}),
        ("/v1/batches", "metadata", {"input_file_id": "file-0", "endpoint": "/v1/embeddings"}),
    ],
)
def test_the_document_tells_of_every_word_by_name_what_the_service_says_of_it(
    http: httpx.Client, path: str, field: str, rest: dict[str, Any]
) -> None:
    # Given the schema of words by name, as the document has it
    document = http.get("/openapi.json").json()
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    told = schema["properties"][field]
    good = [{}, {"team": "search"}, {"a" * 64: "b" * 512}, {str(number): "" for number in range(16)}]
    bad: list[Any] = [
        {"": "a"},
        {"a" * 65: "b"},
        {"a": "b" * 513},
        {"a": 5},
        {"a": None},
        {"a": {}},
        "a",
        [],
        {"a\0": "b"},
    ]
    bad += [{"a\0": 5}, {"a": "b\0"}, {str(number): "" for number in range(17)}]
    # Then it and the service are of one mind
    for words in (*good, *bad):
        assert jsonschema.Draft202012Validator(told).is_valid(words) == (words in good), words
        answer = http.post(path, json=rest | {field: words})
        assert (answer.status_code == 400) == (words in bad), (words, answer.text)
        if answer.status_code == 202:
            http.post(f"/v1/jobs/{answer.json()['id']}/cancel")
