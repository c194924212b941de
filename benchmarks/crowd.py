"""Many at once: those who call `/v1/embeddings`, and those who follow jobs."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx


@dataclass
class Calls:
    """What came of many calls.

    Args:
        statuses: How often each status was answered; 0 where there was no answer.
        milliseconds: How long each answer with vectors took.
        seconds: How long all of it took.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)
    seconds: float = 0.0


async def call(url: str, texts: Sequence[str], clients: int, seconds: float) -> Calls:
    """Have many clients call with one text after another.

    Args:
        url: The service.
        texts: Taken in turn.
        clients: Each has a connection, and sends its next call when it has the answer to the last.
        seconds: How long they go on.
    """
    calls, number = Calls(), itertools.count()
    start = 0.0

    async def one(http: httpx.AsyncClient) -> None:
        while (begun := time.perf_counter()) < start + seconds:
            text = texts[next(number) % len(texts)]
            try:
                answer = await http.post("/v1/embeddings", json={"input": text, "encoding_format": "base64"})
            except httpx.TransportError:
                calls.statuses[0] += 1
                continue
            calls.statuses[answer.status_code] += 1
            if answer.status_code == httpx.codes.OK:
                calls.milliseconds.append((time.perf_counter() - begun) * 1000)
            elif answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
                await asyncio.sleep(float(answer.headers["Retry-After"]))

    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=120) as http:
        start = time.perf_counter()
        await asyncio.gather(*(one(http) for _ in range(clients)))
    calls.seconds = time.perf_counter() - start
    return calls


@dataclass
class Followers:
    """Everybody who follows jobs.

    Args:
        told: How many have been told where their job stands.
        ended: How many have been told its end.
        lost: How many were cut off before.
    """

    told: int = 0
    ended: int = 0
    lost: int = 0

    async def until(self, told: int, seconds: float = 120) -> None:
        """Wait until so many have been told."""
        async with asyncio.timeout(seconds):
            while self.told < told:
                await asyncio.sleep(0.05)

    async def until_ended(self, seconds: float = 120) -> None:
        """Wait until all have been told the end, or were cut off."""
        async with asyncio.timeout(seconds):
            while self.ended + self.lost < self.told:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def following(url: str, jobs: Sequence[str], streams: int) -> AsyncIterator[Followers]:
    """Follow jobs, each by as many as the others, until the end of the block.

    Args:
        url: The service.
        jobs: Ids.
        streams: How many follow, each on a connection of its own.
    """
    followers = Followers()
    place = httpx.URL(url)

    async def one(job: str) -> None:
        reader, writer = await asyncio.open_connection(place.host, place.port)
        try:
            writer.write(f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: {place.host}\r\n\r\n".encode())
            await reader.readuntil(b"event: status\n")
            followers.told += 1
            await reader.readuntil(b"event: end\n")
            followers.ended += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            followers.lost += 1
        finally:
            writer.close()

    tasks = [asyncio.create_task(one(jobs[number % len(jobs)])) for number in range(streams)]
    try:
        yield followers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
