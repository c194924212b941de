"""Streams of events: what they tell, how many there may be, and that readers who are gone are noticed."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from producer.api import streams
from producer.api.settings import ApiSettings
from producer.client import Client
from producer.job import Job
from tests.acceptance.shell import until
from tests.service.serving import Served, awaited, serving


@contextmanager
def waiting_job(data_dir: Path) -> Iterator[Job]:
    """A job that waits for a worker that does not come."""
    with Client(data_dir=data_dir, model="nobody/serves-this") as client:
        job = client.submit(["a text"])
        yield job
        if not job.status().is_final:
            job.cancel()


def test_a_stream_tells_where_a_job_stands_until_its_end(served: Served, http: httpx.Client) -> None:
    # Given a job
    job = served.service.client.submit(["The mill grinds."] * 3)
    # When followed, by somebody whose stream was cut before
    with http.stream("GET", f"/v1/jobs/{job.id}/events", headers={"Last-Event-ID": "7"}) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        events = list(_events(answer.iter_lines()))
    # Then it is told where the job stands, and its end last
    assert [name for name, _ in events[:-1]] == ["status"] * (len(events) - 1)
    assert events[-1][0] == "end" and events[-1][1] == events[-2][1]
    assert events[-1][1]["state"] == "completed" and events[-1][1]["succeeded"] == 3
    # And who comes after the end hears of it at once
    with http.stream("GET", f"/v1/jobs/{job.id}/events") as answer:
        lines = list(answer.iter_lines())
        assert [name for name, _ in _events(iter(lines))] == ["status", "end"]
    # And who comes again after that, as a browser does for ever, is told that there is nothing more; not of another end
    last = next(line.removeprefix("id: ") for line in reversed(lines) if line.startswith("id: "))
    again = http.get(f"/v1/jobs/{job.id}/events", headers={"Last-Event-ID": last})
    assert (last, again.status_code, again.content) == ("end-0", 204, b"")
    with http.stream("GET", f"/v1/jobs/{job.id}/events", headers={"Last-Event-ID": "end-1"}) as answer:
        assert answer.status_code == 200


def test_a_job_that_nobody_has_is_not_followed(http: httpx.Client) -> None:
    answer = http.get("/v1/jobs/0197f2a3-0000-7000-8000-000000000000/events")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "job_not_found")


def test_hundreds_follow_one_job_with_one_look_and_no_thread_each(served: Served, data_dir: Path) -> None:
    # Given a job that waits
    with waiting_job(data_dir) as job:
        looks = 0
        look = served.service.streams._look

        def counted(job_id: str) -> tuple[dict[str, Any], bool]:
            nonlocal looks
            looks += 1
            return look(job_id)

        served.service.streams._look = counted  # type: ignore[method-assign]
        before = set(threading.enumerate())
        # When hundreds follow it and it ends
        ended = awaited(_follow(served.url, job, 300, served))
        served.service.streams._look = look  # type: ignore[method-assign]
    # Then all hear of the end, after a look a second for all together
    assert ended == 300
    assert looks < 60
    # (each loop's pool grows with the cores, but not with those who follow)
    assert len(set(threading.enumerate()) - before) < 150
    until(lambda: served.service.streams.open == 0, "the end of all streams")


def test_a_reader_who_is_gone_is_noticed(served: Served, http: httpx.Client, data_dir: Path) -> None:
    with waiting_job(data_dir) as job:
        with http.stream("GET", f"/v1/jobs/{job.id}/events") as answer:
            lines = answer.iter_lines()
            assert next(lines)
            assert served.service.streams.open == 1
        until(lambda: served.service.streams.open == 0, "the end of the stream")


def test_a_silent_stream_shows_that_it_lives(
    http: httpx.Client, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT", 0.2)
    with waiting_job(data_dir) as job, http.stream("GET", f"/v1/jobs/{job.id}/events") as answer:
        assert next(line for line in answer.iter_lines() if line.startswith(":")) == ": still there"


def test_a_stream_ends_soon_after_its_key_was_revoked(
    keyed: Served, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given somebody who follows a job with a key
    monkeypatch.setattr(streams, "_ASK_AGAIN", 0.1)
    with waiting_job(data_dir) as job:
        record, key = keyed.service.stores.keys.create("anna", ["admin"])
        with keyed.http(key) as http, http.stream("GET", f"/v1/jobs/{job.id}/events") as answer:
            lines = answer.iter_lines()
            next(lines)
            # When the key is revoked
            keyed.service.stores.keys.revoke(record.id)
            # Then the stream ends without an end of the job
            assert {name for name, _ in _events(lines)} == {"status"}


def test_one_stream_too_many_is_refused_and_a_stop_ends_the_others(data_dir: Path) -> None:
    # Given a service with room for one
    settings = ApiSettings.load(data_dir=data_dir, max_streams=1)
    with waiting_job(data_dir) as job, serving(settings) as one, one.http() as http:
        path = f"/v1/jobs/{job.id}/events"
        with http.stream("GET", path) as answer:
            lines = answer.iter_lines()
            next(lines)
            # When another comes, then it is told when to come again
            refused = http.get(path)
            assert refused.status_code == 429 and int(refused.headers["Retry-After"]) > 0
            # When the service stops, then the first ends in order
            one.loop_call(one.service.streams.close)
            assert list(_events(lines))[-1][0] == "status"


def test_of_many_who_come_at_the_same_moment_no_more_are_let_in_than_there_is_room_for(data_dir: Path) -> None:
    # Given a service with room for one, and several who ask before any of them is answered
    settings = ApiSettings.load(data_dir=data_dir, max_streams=1)
    with waiting_job(data_dir) as job, serving(settings) as one:
        answers = awaited(_ask_at_once(one.url, f"/v1/jobs/{job.id}/events", 12))
        # Then one of them has his stream, and the others come again
        assert sorted(answers) == [200, *[429] * 11]


async def _ask_at_once(url: str, path: str, number: int) -> list[int]:
    """Send the same request over many connections, and return the statuses of the answers."""
    place = httpx.URL(url)
    wires = [await asyncio.open_connection(place.host, place.port) for _ in range(number)]
    for _, writer in wires:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {place.host}\r\n\r\n".encode())
    heads = await asyncio.gather(*(reader.readline() for reader, _ in wires))
    for _, writer in wires:
        writer.close()
    return [int(head.split()[1]) for head in heads]


async def _follow(url: str, job: Job, readers: int, served: Served) -> int:
    """Follow a job with many connections, cancel it once all are there, and return how many heard of its end."""
    place = httpx.URL(url)

    async def read() -> bool:
        reader, writer = await asyncio.open_connection(place.host, place.port)
        writer.write(f"GET /v1/jobs/{job.id}/events HTTP/1.1\r\nHost: {place.host}\r\n\r\n".encode())
        await reader.readuntil(b"event: end\n")
        writer.close()
        return True

    tasks = [asyncio.create_task(read()) for _ in range(readers)]
    while served.service.streams.open < readers:
        await asyncio.sleep(0.05)
    await asyncio.to_thread(job.cancel)
    return sum(await asyncio.gather(*tasks))


def _events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))
