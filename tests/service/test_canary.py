"""A canary goes through every dialect and every refusal, and is then looked for wherever it must not be."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import sqlalchemy

from producer.api.settings import ApiSettings
from storage.keytables import KeyRow
from storage.stores import Stores
from tests.acceptance.shell import Shell, address, until
from tests.acceptance.shell import serving as running
from tests.servers import short_folder
from tests.service.canary import Canary
from tests.service.receiver import Receiver, receiving
from tests.service.serving import serving
from tests.service.songs import LIMITS, embedded, refused, wrong_keys
from tests.stack import free_port


@dataclass
class Flown:
    """What is left where a canary was.

    Args:
        canary: What was sent.
        settings: Of the service.
        log: All that its processes told.
        answers: Each refusal, and what may be in it.
        heard: Every command that Redis was sent, and every value that it holds.
        metrics: Of the service.
        receiver: Whom the ends of jobs were told to.
    """

    canary: Canary
    settings: ApiSettings
    log: bytes
    answers: list[tuple[httpx.Response, tuple[str, ...]]]
    heard: list[bytes]
    metrics: bytes
    receiver: Receiver = field(repr=False)


@pytest.fixture(scope="module")
def flown() -> Iterator[Flown]:
    """A service with keys, in processes of its own, that tells as much as it can, and what came of a canary in it."""
    with short_folder() as folder, receiving() as receiver:
        told = {"AUTH": "keys", "LOG_LEVEL": "DEBUG", "WEBHOOK_HOSTS": "127.0.0.1"} | LIMITS
        shell = Shell(folder / "data", folder, {f"EMBEDMILL_{name}": str(value) for name, value in told.items()})
        log = folder / "log"
        with running(shell, "up", "--port", 0, "--auth", "keys", log=log):
            settings = ApiSettings.load(data_dir=shell.data_dir)
            canary = Canary(shell("keys", "create", "canary").out.strip())
            live = f"{receiver.url}&cage={canary.hook}"
            dead = f"http://127.0.0.1:{free_port()}/{canary.hook}"
            heard: list[bytes] = []
            headers = {"Authorization": f"Bearer {canary.key}"}
            url = address(log)
            with _overheard(settings, heard), httpx.Client(base_url=url, headers=headers, timeout=60) as http:
                jobs = embedded(http, canary, [live, dead])
                answers = [*refused(http, canary, jobs[0]), *wrong_keys(url, canary)]
                until(lambda: receiver.told, "the webhook to be told")
                until(lambda: http.get(f"/v1/jobs/{jobs[1]}/webhooks").json()["data"][0]["attempts"], "a try in vain")
                metrics = http.get("/metrics").content
                with closing(redis.Redis.from_url(settings.redis)) as client:
                    heard += _held(client)
        yield Flown(canary, settings, log.read_bytes(), answers, heard, metrics, receiver)


@contextmanager
def _overheard(settings: ApiSettings, heard: list[bytes]) -> Iterator[None]:
    """Note every command that Redis is sent."""
    with closing(redis.Redis.from_url(settings.redis)) as client, client.monitor() as monitor:

        def listen() -> None:
            for command in monitor.listen():
                heard.append(command["command"].encode())
                if "the end of the song" in command["command"]:
                    return

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield
        finally:
            client.echo("the end of the song")
            thread.join(60)
            assert not thread.is_alive()


def _held(client: Any) -> Iterator[bytes]:
    reads = {b"string": client.get, b"hash": client.hgetall, b"set": client.smembers}
    reads |= {b"list": lambda key: client.lrange(key, 0, -1), b"stream": client.xrange}
    reads |= {b"zset": lambda key: client.zrange(key, 0, -1, withscores=True)}
    for key in client.scan_iter():
        yield b"%s %s" % (key, repr(reads[client.type(key)](key)).encode())


def test_no_answer_that_refuses_tells_what_was_sent(flown: Flown) -> None:
    assert len(flown.answers) > 200
    told = {_told(answer): flown.canary.heard(answer.content, *but) for answer, but in flown.answers}
    assert not {answer: heard for answer, heard in told.items() if heard}
    assert not [_told(answer) for answer, _ in flown.answers if answer.status_code >= 500 and answer.status_code != 503]


def test_no_log_tells_it(flown: Flown) -> None:
    # Given processes that told as much as they can
    assert b"DEBUG" in flown.log
    assert not flown.canary.heard(flown.log), _lines(flown.log, flown.canary)
    for log in flown.settings.data_dir.rglob("*.log"):
        assert not flown.canary.heard(log.read_bytes()), log


def test_every_line_of_every_process_is_json_with_its_fields(flown: Flown) -> None:
    # Given that nobody sat at a terminal, then no line of any process is anything else
    told = [json.loads(line) for line in flown.log.splitlines()]
    assert {line["role"] for line in told} == {"up", "worker", "reconciler", "api"}
    assert all({"timestamp", "level", "logger", "message", "pid"} <= line.keys() for line in told)
    # And a worker says which it is, and what it works at
    worker = [line for line in told if line["role"] == "worker"]
    assert all(len(line["worker_id"]) == 36 and line["slot"] == "cpu" for line in worker)
    at_work = [line for line in worker if "job_id" in line]
    assert at_work and all(len(line["job_id"]) == 36 and line["chunk"] >= 0 for line in at_work)
    # And the service which request it answered
    assert any("request_id" in line for line in told if line["role"] == "api")


def test_redis_never_held_nor_carried_it(flown: Flown) -> None:
    assert len(flown.heard) > 20
    for told in flown.heard:
        assert not flown.canary.heard(told), told[:300]
    files = [file for file in (flown.settings.data_dir / "redis").rglob("*") if file.is_file()]
    assert any("aof" in file.name for file in files)
    for file in files:
        assert not flown.canary.heard(file.read_bytes()), file


def test_metrics_do_not_tell_it(flown: Flown) -> None:
    assert b"embedmill_http_requests_total" in flown.metrics
    assert not flown.canary.heard(flown.metrics)


def test_a_webhook_tells_the_end_and_nothing_of_what_was_embedded(flown: Flown) -> None:
    for _, headers, body in flown.receiver.told:
        assert b"job.completed" in body
        assert not flown.canary.heard(body)
        assert not flown.canary.heard(repr(headers).encode())


def test_the_key_is_kept_as_a_hash_alone(flown: Flown) -> None:
    # Given whatever lies on the disk
    stores = Stores.open(flown.settings)
    with stores.database.read() as connection:
        rows = connection.execute(sqlalchemy.select(KeyRow.__table__)).mappings().all()
    stores.database.close()
    # Then the row of the key is there, without its secret, and the secret is nowhere
    assert len(rows) == 1
    assert rows[0]["name"] == "canary" and len(rows[0]["secret_hash"]) == 32
    assert "key" not in flown.canary.heard(repr(dict(rows[0])).encode())
    for file in flown.settings.data_dir.rglob("*"):
        if file.is_file():
            assert flown.canary.secret not in file.read_bytes(), file


def test_a_log_names_the_route_that_failed_and_not_what_was_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a service whose database goes away
    with serving(ApiSettings.load(data_dir=tmp_path)) as served, served.http() as http:
        for file in tmp_path.glob("embedmill.sqlite3*"):
            file.unlink()
        (tmp_path / "embedmill.sqlite3").mkdir()
        served.service.stores.database.close()
        # When an item is asked for by the id that its owner gave it
        with caplog.at_level(logging.DEBUG, "producer"):
            assert http.get("/v1/jobs/01234567-89ab-7def-8123-456789abcdef/items/perch").status_code == 503
    # Then the route is in the log, and the id is not
    assert "/v1/jobs/{job_id}/items/{custom_id" in caplog.text
    assert "perch" not in caplog.text


def _told(answer: httpx.Response) -> str:
    return f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text[:500]}"


def _lines(log: bytes, canary: Canary) -> str:
    return "\n".join(line.decode(errors="replace")[:500] for line in log.splitlines() if canary.heard(line))[:3000]
