"""A file of an ended job's results over HTTP; a download that is cut goes on where it was."""

from __future__ import annotations

import time
from typing import Protocol

import httpx

from producer.output import Sink
from producer.remote.connection import Connection
from storage.contract.errors import (
    EmbedmillError,
    LimitError,
    Overloaded,
    ServiceUnavailable,
    StorageUnavailable,
    WrongState,
)

#: The longest that a download waits for a place, in seconds, where nothing comes meanwhile.
_QUEUED = 600.0


class Target(Protocol):
    """Where a download goes."""

    def begin(self) -> None:
        """Forget what was taken: the file comes from its first byte."""

    def take(self, block: bytes) -> None:
        """Take the bytes that follow."""

    def is_whole(self) -> bool:
        """Whether nothing more is to come."""


class Download:
    """One download.

    Args:
        connection: Leads to the service.
        job_id: A job that has ended.
        asked: The format and what else the service is asked for, by its own names.
        target: Where it goes.
    """

    def __init__(self, connection: Connection, job_id: str, asked: dict[str, str], target: Target) -> None:
        self._connection = connection
        self._path = f"/v1/jobs/{job_id}/results"
        self._asked = asked
        self._target = target
        self._got = 0
        self._etag: str | None = None

    def run(self) -> None:
        """Fetch all of it.

        Raises:
            EmbedmillError: What the service says.
            ServiceUnavailable: When it cannot be reached for long.
            Overloaded: When it has no place for long.
        """
        patience, queued_until = self._connection.patience(), time.monotonic() + _QUEUED
        while True:
            had = self._got
            try:
                self._fetch()
            except httpx.TransportError as error:
                failed: EmbedmillError = self._connection.unreachable(error)
            except (ServiceUnavailable, StorageUnavailable, LimitError) as error:
                failed = error
            else:
                return
            if self._got > had:
                patience, queued_until = self._connection.patience(), time.monotonic() + _QUEUED
            elif isinstance(failed, Overloaded) and time.monotonic() < queued_until:
                # It is there, and says when to come again: others are being served.
                patience = self._connection.patience()
            if not patience.lasts(getattr(failed, "retry_after", None)):
                raise failed

    def _fetch(self) -> None:
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        again = 0
        if self._got and self._etag:
            # From the last byte that is there on: behind it there may be none, and then there were nothing to send.
            again = 1
            headers |= {"Range": f"bytes={self._got - again}-", "If-Range": self._etag}
        with self._connection.stream(self._path, params=self._asked, headers=headers) as response:
            if response.status_code != httpx.codes.PARTIAL_CONTENT:
                # Whole again: nothing had come, or the job was sent round meanwhile.
                self._target.begin()
                self._got = again = 0
                self._etag = response.headers.get("etag")
            for block in response.iter_raw():
                new = block[again:]
                again -= len(block) - len(new)
                self._target.take(new)
                self._got += len(new)
        if not self._target.is_whole():
            raise httpx.ReadError("the download ended before all had come")


class SinkTarget:
    """A file, or a stream, that takes what comes as it is.

    Args:
        sink: Written once, from its beginning.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def begin(self) -> None:
        """Begin.

        Raises:
            WrongState: When something was written already, which cannot be taken back.
        """
        if self._sink.tell():
            raise WrongState("The job's results changed while they were fetched.", "Fetch them again.")

    def take(self, block: bytes) -> None:
        """Write what follows."""
        self._sink.write(block)

    def is_whole(self) -> bool:
        """Whether nothing more is to come, as far as can be told: HTTP itself says where a body ends."""
        return True
