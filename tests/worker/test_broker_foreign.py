"""Messages that are none of ours, on a real worker: none ends it, none holds it up, none makes it run code."""

from __future__ import annotations

import base64
import json
import os
import pickle
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from producer.queue import Queue
from storage.contract.broker import KEY_PREFIX, TASK_NAME
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from tests.servers import running_redis
from tests.worker.taker import BULK, Taker, taking

#: What it may have used at most, in KiB; less than an unpacked bomb alone.
MEMORY = 500_000


class Harm:
    """What a pickle does to those who load it: makes a file."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._marker),)


def envelope(body: bytes = b"[[], {}, {}]", headers: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    properties = {
        "body_encoding": "base64",
        "delivery_tag": new_id(),
        "delivery_info": {"exchange": "", "routing_key": BULK},
        "priority": 0,
        "reply_to": new_id(),
        "correlation_id": new_id(),
    }
    return {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"task": TASK_NAME, "id": new_id(), "lang": "py"} | (headers or {}),
        "properties": properties,
    } | changes


def with_properties(**changes: Any) -> dict[str, Any]:
    properties = envelope()["properties"] | changes
    return envelope(properties={name: value for name, value in properties.items() if value is not None})


#: Entries that cannot be read at all, which are dropped before Celery sees them.
UNREADABLE: dict[str, Any] = {
    "no JSON": b"not json",
    "no text": b"\xff\xfe\x00",
    "nothing": b"",
    "a list": [1, 2],
    "a number": 5,
    "null": None,
    "deeply nested": b"[" * 200_000,
    "an empty object": {},
    "no properties": {"body": "", "headers": {}},
    "properties that are a list": {"properties": []},
    "no delivery tag": with_properties(delivery_tag=None),
    "a delivery tag that is a list": with_properties(delivery_tag=[1]),
    "no delivery info": with_properties(delivery_info=None),
    "delivery info that is a word": with_properties(delivery_info="here"),
    "a routing key that is a number": with_properties(delivery_info={"exchange": "", "routing_key": 7}),
    "headers that are a list": envelope() | {"headers": [1]},
    "a body that is a number": envelope() | {"body": 5},
    "an encoding nobody knows": with_properties(body_encoding="rot13"),
}

#: Messages that Celery can read, and nobody can do.
READABLE: dict[str, Any] = {
    "a body that is no base64": envelope() | {"body": "ä"},
    "an unknown task": envelope(headers={"task": "os.system"}),
    "no task": envelope() | {"headers": {}},
    "arguments by place": envelope(b'[["rm -rf /"], {}, {}]'),
    "an unknown version": envelope(json.dumps([[], Pointer(new_id(), 0).to_message() | {"v": 99}, {}]).encode()),
    "a field more": envelope(json.dumps([[], {"v": 1, "job_id": "../..", "chunk": -1, "more": 1}, {}]).encode()),
    "a body that is no call": envelope(b'{"x": 1}'),
    "a body that is no JSON": envelope(b"\xff\xff"),
    "a content type nobody knows": envelope() | {"content-type": "application/x-own"},
    "one for next year": envelope(headers={"eta": "2999-01-01T00:00:00+00:00"}),
    "one that has expired": envelope(headers={"expires": "1999-01-01T00:00:00+00:00"}),
    "retries that are a word": envelope(headers={"retries": "many", "timelimit": "x", "group": 5}),
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """URL of a server of this module's own."""
    with running_redis() as url:
        yield url


def bomb() -> bytes:
    """Return a few hundred KB that unpack to 600 MB; shorter than what is dropped for its length."""
    packer = zlib.compressobj(9)
    return b"".join([*(packer.compress(bytes(10_000_000)) for _ in range(60)), packer.flush()])


def put(url: str, *entries: Any) -> None:
    """Put entries at the end of the queue, as they are."""
    with redis.Redis.from_url(url) as client:
        for entry in entries:
            client.lpush(KEY_PREFIX + BULK, entry if isinstance(entry, bytes) else json.dumps(entry))


def assert_serves(worker: Taker, url: str, chunk: int) -> None:
    sender = Queue(url)
    sender.send([Pointer(new_id(), chunk)], BULK)
    sender.close()
    worker.wait(lambda: chunk in worker.notes("ended"))


def test_entries_that_cannot_be_read_are_dropped_and_counted(url: str, tmp_path: Path) -> None:
    # Given a queue of them, two of them harmful by their size, and a pointer at its end
    put(url, *UNREADABLE.values())
    put(url, envelope(b"x" * 50_000_000), envelope(bomb(), {"compression": "application/x-gzip"}))
    with taking(url, tmp_path / "w") as worker:
        # When a worker gets there
        assert_serves(worker, url, 1)
        # Then it is the one that began, has unpacked nothing, and has told of each
        status = Path(f"/proc/{worker.process.pid}/status")
        if status.exists():
            peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
            assert int(peak.split()[1]) < MEMORY, peak
        assert worker.unreadable() == len(UNREADABLE) + 2
        assert worker.notes("began") == [1]


def test_messages_that_nobody_can_do_are_dropped(url: str, tmp_path: Path) -> None:
    # Given a queue of them, more than a worker has threads, and a pointer at its end
    put(url, *READABLE.values())
    with taking(url, tmp_path / "w") as worker:
        # When a worker gets there, then none of them has kept a thread
        assert_serves(worker, url, 1)
        worker.hold()
        for chunk in range(2, 6):
            put(url, *READABLE.values())
            sender = Queue(url)
            sender.send([Pointer(new_id(), chunk)], BULK)
            sender.close()
        worker.wait(lambda: sorted(worker.notes("began")) == [1, 2, 3, 4, 5])
        worker.let_go()
        worker.wait(lambda: sorted(worker.notes("ended")) == [1, 2, 3, 4, 5])
        # And they have not gone back to the queue for the next one
        with redis.Redis.from_url(url) as client:
            worker.wait(lambda: not client.llen(KEY_PREFIX + BULK))
        assert worker.unreadable() > 0


def test_json_alone_is_accepted(url: str, tmp_path: Path) -> None:
    # Given messages that make a file when they are unpickled
    pickles = {"content-type": "application/x-python-serialize", "content-encoding": "binary"}
    markers = [tmp_path / f"marker-{i}" for i in range(3)]
    harms = [pickle.dumps(([], Harm(marker), {})) for marker in markers]
    put(url, envelope(harms[0]) | pickles, envelope(harms[1], content_type="pickle"), harms[2])
    # When a worker takes them
    with taking(url, tmp_path / "w") as worker:
        assert_serves(worker, url, 1)
    # Then it has loaded none
    assert not any(marker.exists() for marker in markers)
    # And whoever does gets the file
    pickle.loads(harms[0])
    assert markers[0].exists()


def test_nonsense_to_all_workers_ends_none(url: str, tmp_path: Path) -> None:
    with taking(url, tmp_path / "w") as worker, redis.Redis.from_url(url) as client:
        assert_serves(worker, url, 1)
        # Given the channel on which every worker hears remote control
        (channel,) = {name for name in client.pubsub_channels("*") if b"pidbox" in name} or [b""]
        patterns = client.pubsub_numpat()
        assert channel or patterns
        # When nonsense comes on it
        name = f"{KEY_PREFIX}/0.celery.pidbox".encode()
        heard = [client.publish(name, entry) for entry in (b"not json", b"[1]", b"{}", json.dumps(envelope()))]
        assert all(heard), "nobody listens there"
        # Then the worker goes on, and has heard it: what comes by a channel may be read after what waits in a list
        assert_serves(worker, url, 2)
        worker.wait(lambda: "dropped a message that cannot be read" in worker.log())
        assert worker.unreadable() >= 1
