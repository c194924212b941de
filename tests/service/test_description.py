"""The interactive description of the API."""

from __future__ import annotations

import re

import httpx


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
