"""The list in which Redis keeps the messages of the deterministic encoder's model, entry by entry, as they are."""

from __future__ import annotations

import base64
import json
from typing import Any

from storage.contract.broker import KEY_PREFIX, TASK_NAME
from storage.contract.ids import new_id
from storage.contract.models import Priority, queue_name
from tests.faults.encoder import CARD
from tests.faults.servers import RedisMachine


class RawQueue:
    """The bulk queue.

    Args:
        redis: Where it is.
    """

    def __init__(self, redis: RedisMachine) -> None:
        self._redis = redis
        self.name = queue_name(CARD.name, CARD.id, Priority.BULK)
        self.key = KEY_PREFIX + self.name

    def entries(self) -> list[bytes]:
        """Return what waits."""
        found: list[bytes] = self._redis.cli("LRANGE", self.key, 0, -1)
        return found

    def push(self, *entries: bytes) -> None:
        """Put entries at the end."""
        for entry in entries:
            self._redis.cli("LPUSH", self.key, entry)

    def readers(self) -> int:
        """Return how many connections wait for a message now, of whatever queue."""
        lines = self._redis.cli("CLIENT", "LIST").decode().splitlines()
        return sum("cmd=brpop" in line and "flags=b" in line for line in lines)

    def pointer(self, job_id: str, chunk: int, version: int = 1) -> bytes:
        """Return a message as a sender would send it."""
        return self.envelope(json.dumps([[], {"v": version, "job_id": job_id, "chunk": chunk}, {}]).encode())

    def envelope(self, body: bytes, **changes: Any) -> bytes:
        """Return a message around a body.

        Args:
            body: What it carries.
            **changes: Fields of the envelope that are otherwise; None: without that field.
        """
        properties = {
            "body_encoding": "base64",
            "delivery_tag": new_id(),
            "delivery_info": {"exchange": "", "routing_key": self.name},
            "priority": 0,
            "correlation_id": new_id(),
        }
        fields = {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"task": TASK_NAME, "id": new_id(), "lang": "py"},
            "properties": properties,
        } | changes
        return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()
