"""What the outermost layer answers when nobody else does."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from producer.api.guard import Guard
from tests.service.serving import awaited


class _Uncounted:
    """Metrics that nobody reads."""

    def count(self, *told: object) -> None:
        """Count nothing."""


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embed"])
def test_who_still_waits_when_the_service_stops_is_told_to_come_again(path: str) -> None:
    # Given a request that waits for its answer
    sent: list[dict[str, Any]] = []

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async def stop() -> None:
        scope = {"type": "http", "method": "POST", "path": path, "headers": []}
        asked = asyncio.create_task(Guard(wait, _Uncounted())(scope, receive, send))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        # When the server ends what is under way
        asked.cancel()
        await asyncio.wait([asked])

    awaited(stop())
    # Then it is answered in the words of its dialect, and with a time to come again
    start, body = sent
    headers = dict(start["headers"])
    assert start["status"] == 503 and int(headers[b"retry-after"]) > 0
    told = json.loads(body["body"])
    assert "being stopped" in (told["error"] if path == "/embed" else told["error"]["message"])
