"""Records as lines of NDJSON, judged on the way as far as that can be done on this side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from producer.judging import judge
from producer.records import RecordLike
from storage.contract.errors import InvalidItems, Problem

#: Records judged together.
_BATCH = 1024

#: Invalid items that are reported one by one; of the others only the number is told.
REPORTED = 100

#: Longest text that any service takes, in bytes; this one's own limit it tells itself.
_LONGEST_TEXT = 100_000_000

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_encode_escaped = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class Line(NamedTuple):
    """One item on its way.

    Args:
        position: Place in the job, from 0.
        where: How a person finds it again.
        data: A line of NDJSON, its end included.
    """

    position: int
    where: str
    data: bytes


class Refusals:
    """Invalid items of a submission that accepts nothing if there is one."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self.count = 0

    def __bool__(self) -> bool:
        return self.count > 0

    def note(self, position: int, where: str, reason: str) -> None:
        """Note an invalid item."""
        self.count += 1
        if len(self._problems) < REPORTED:
            self._problems.append(Problem(position, where or f"item {position}", reason))

    def add(self, problems: Iterable[Problem], count: int) -> None:
        """Note what the service found.

        Args:
            problems: The first of them, with their places in the job.
            count: Of all it found.
        """
        before = self.count
        for problem in problems:
            self.note(problem.position, problem.where, problem.reason)
        self.count = before + count

    def check(self) -> None:
        """Raise if there are any.

        Raises:
            InvalidItems: With the first of them in order.
        """
        if self.count:
            raise InvalidItems(sorted(self._problems, key=lambda problem: problem.position), self.count)


class Lines:
    """Yields the lines of records; once an item is refused there are none any more, but the rest is judged.

    Args:
        records: Any number; read once, in constant memory.
        with_ids: Whether every record must have a caller's id.
        refusals: Where invalid items are noted; None when they are the service's business, to be kept as errors.
    """

    def __init__(self, records: Iterable[RecordLike], with_ids: bool, refusals: Refusals | None) -> None:
        self._records = iter(records)
        self._with_ids = with_ids
        self._refusals = refusals
        self._taken = 0

    def __iter__(self) -> Iterator[Line]:
        while batch := list(islice(self._records, _BATCH)):
            first, self._taken = self._taken, self._taken + len(batch)
            if self._refusals is not None:
                self._judge(batch, first, self._refusals)
            if not self._refusals:
                for position, (text, custom_id, where, problem) in enumerate(batch, first):
                    data = _line(None if problem else text, custom_id, self._with_ids)
                    yield Line(position, where, data)

    def _judge(self, batch: Sequence[RecordLike], first: int, refusals: Refusals) -> None:
        judged = judge(batch, _LONGEST_TEXT, self._with_ids)
        for place, problem in sorted(judged.problems.items()):
            refusals.note(first + place, batch[place][2], problem)


def _line(text: object, custom_id: object, with_ids: bool) -> bytes:
    if not with_ids:
        return _json(text)
    # A number would be taken for an id; what is neither a string nor missing is to be refused.
    given = custom_id if custom_id is None or isinstance(custom_id, str) else True
    return b'{"id":%b,"text":%b}\n' % (_json(given)[:-1], _json(text)[:-1])


def _json(value: object) -> bytes:
    """Return a value as a line of JSON; for what JSON has no word for an empty object, which is no text either."""
    try:
        return _encode(value).encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate travels as its escape, and is found on the other side
        return _encode_escaped(value).encode() + b"\n"
    except (TypeError, ValueError, RecursionError):
        return b"{}\n"
