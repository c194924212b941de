"""One submission over HTTP: small ones in one request, large ones part by part; in the end a sealed job or nothing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import uuid4

from producer.records import RecordLike
from producer.remote.connection import Connection
from producer.remote.failures import object_of
from producer.remote.lines import Line, Lines, Refusals, as_item
from producer.remote.patience import Patience
from producer.remote.values import STATUS
from storage.contract.errors import (
    Conflict,
    EmbedmillError,
    IdempotencyConflict,
    InvalidItems,
    InvalidOption,
    Problem,
    ServerError,
    ServiceUnavailable,
    StorageUnavailable,
    WrongState,
)
from storage.contract.states import JobState

#: Bytes up to which a submission is one request, and those of a part of a larger one.
AT_ONCE, PART = 1_000_000, 8_000_000

#: Most items of one part.
_PART_ITEMS = 50_000

#: How long it is tried to take back what was begun, in seconds.
_DISCARD = 5.0

_NDJSON = {"Content-Type": "application/x-ndjson"}


class Upload:
    """Takes the records of one job to the service.

    Args:
        connection: Leads to the service.
        asked: Everything but the texts, by the names that the service gives it; None: not asked.
        key: The idempotency key, or None.
        with_ids: Whether every record must have a caller's id.
    """

    def __init__(self, connection: Connection, asked: dict[str, Any], key: str | None, with_ids: bool) -> None:
        self._connection = connection
        self._asked = {name: value for name, value in asked.items() if value is not None}
        self._key = {"Idempotency-Key": _quoted(key)} if key is not None else {}
        self._with_ids = with_ids
        self._refusals = Refusals() if asked.get("on_invalid") == "refuse" else None

    def run(self, records: Iterable[RecordLike]) -> dict[str, Any]:
        """Read all records and submit them.

        Args:
            records: Any number; read once, in constant memory.

        Returns:
            The status object of the sealed job, or of the one that had this idempotency key and payload before.

        Raises:
            InvalidItems: When items are invalid and none is to be kept as an error; nothing was accepted.
            InvalidOption: When there are none, or the service does not take an option.
            ServiceUnavailable: When the service cannot be reached; the message says if it may have accepted the job.
        """
        parts = _Parts(Lines(records, self._with_ids, self._refusals))
        first = parts.gather(AT_ONCE)
        if parts.ended:
            self._check()
            if not first:
                raise InvalidOption("There are no texts to submit.")
            return self._at_once(first)
        return self._in_parts(first, parts)

    def _at_once(self, lines: list[Line]) -> dict[str, Any]:
        # With a key of our own a lost answer never makes two jobs.
        key = self._key or {"Idempotency-Key": _quoted(uuid4().hex)}
        # The lines are JSON already, and go into the list as they are; beside one that says a problem all are items.
        plain = all(line.is_text for line in lines)
        head, tail = json.dumps(self._asked | {"texts" if plain else "items": [0]}).rsplit("0", 1)
        body = head.encode() + b",".join(line.data if plain else as_item(line) for line in lines) + tail.encode()
        try:
            return self._posted({"content": body, "headers": {"Content-Type": "application/json"} | key})
        except InvalidItems as error:
            raise InvalidItems(_placed(error.problems, lines), error.count) from None

    def _in_parts(self, first: list[Line], parts: _Parts) -> dict[str, Any]:
        opened = self._posted({"json": {"parts": True, **self._asked}, "headers": self._key})
        path = f"/v1/jobs/{opened['id']}"
        if opened["state"] != JobState.ACCEPTING:
            # The key's own job, which is sealed: the same parts change nothing, and others are refused.
            return self._compared(path, first, parts)
        try:
            return self._filled(path, first, parts)
        except _InDoubt:
            raise  # it may have been accepted, and is not taken back
        except BaseException:
            # Ctrl-C too.
            self._discard(path)
            raise

    def _filled(self, path: str, first: list[Line], parts: _Parts) -> dict[str, Any]:
        number = items = 0
        for part in parts.from_here(first, PART):
            if not self._refusals:
                self._put(f"{path}/parts/{number}", part)
            number, items = number + 1, items + len(part)
        self._check()
        return self._sealed(path, number, items)

    def _compared(self, path: str, first: list[Line], parts: _Parts) -> dict[str, Any]:
        try:
            return self._filled(path, first, parts)
        except (Conflict, WrongState):
            raise IdempotencyConflict(
                "This idempotency key was used before, for other texts or options.", "Use a new key for a new job."
            ) from None

    def _put(self, path: str, part: list[Line]) -> None:
        try:
            self._connection.ask("PUT", path, content=_joined(part), headers=_NDJSON)
        except InvalidItems as error:
            if self._refusals is None:
                raise
            # What is left is judged all the same, so that every bad item is reported.
            self._refusals.add(_placed(error.problems, part), error.count)

    def _sealed(self, path: str, parts: int, items: int) -> dict[str, Any]:
        try:
            counts = {"parts": parts, "items": items}
            answer = self._connection.ask("POST", f"{path}/seal", json=counts)
        except (ServiceUnavailable, StorageUnavailable) as error:
            # The database may have taken it, and only its answer was lost.
            raise _in_doubt(error) from error
        return object_of(answer, STATUS)

    def _posted(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self._connection.ask("POST", "/v1/jobs", **request)
        except ServiceUnavailable as error:
            raise _in_doubt(error) from error
        return object_of(answer, STATUS)

    def _discard(self, path: str) -> None:
        with contextlib.suppress(EmbedmillError):
            self._connection.ask("DELETE", path, done=404, patience=Patience(_DISCARD))

    def _check(self) -> None:
        if self._refusals:
            self._refusals.check()


class _InDoubt(ServiceUnavailable):
    """Raised when nobody knows whether a job was accepted."""


class _Parts:
    """Cuts lines into parts.

    Args:
        lines: Read once.
    """

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        self.ended = False

    def from_here(self, begun: list[Line], size: int) -> Iterator[list[Line]]:
        """Yield the parts of all that is left, the first one with what has been read already."""
        part = self.gather(size, begun)
        while part:
            yield part
            # The last part is let go before the next one is there.
            part = []
            part = [] if self.ended else self.gather(size)

    def gather(self, size: int, begun: list[Line] | None = None) -> list[Line]:
        """Return lines of about so many bytes, after those that were read before."""
        part = begun or []
        filled = sum(len(line.data) for line in part)
        while filled < size and len(part) < _PART_ITEMS and not self.ended:
            line = next(self._lines, None)
            if line is None:
                self.ended = True
            else:
                part.append(line)
                filled += len(line.data)
        return part


def _joined(lines: list[Line]) -> bytes:
    return b"".join(line.data for line in lines)


def _placed(problems: Iterable[Problem], lines: list[Line]) -> list[Problem]:
    """Return problems with the places that the caller knows, in place of those that the service saw."""
    first, placed = lines[0].position, []
    for problem in problems:
        at = problem.position - first
        where = lines[at].where if 0 <= at < len(lines) else ""
        placed.append(Problem(problem.position, where or f"item {problem.position}", problem.reason))
    return placed


def _in_doubt(error: ServerError) -> _InDoubt:
    return _InDoubt(
        f"{error.message} Whether the job was accepted is not known.",
        "The list of jobs tells; with an idempotency key, submitting again is safe.",
    )


def _quoted(key: str) -> str:
    """Return a key as the string that draft-ietf-httpapi-idempotency-key-header asks for.

    Raises:
        InvalidOption: When it is too long, or holds what no header can.
    """
    if not isinstance(key, str) or not 0 < len(key) <= 255 or not key.isascii() or not key.isprintable():
        raise InvalidOption("An idempotency key has 1 to 255 characters; over HTTP of ASCII alone.")
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
