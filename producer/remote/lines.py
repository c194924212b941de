"""Records as lines of NDJSON, judged on the way as far as that can be done on this side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from producer.judging import Judged, judge
from producer.records import RecordLike, told_problem
from storage.contract.errors import InvalidItems, Problem

#: Records judged together.
_BATCH = 1024

#: Invalid items that are reported one by one; of the others only the number is told.
REPORTED = 100

#: Longest text that any service takes, in bytes; this one's own limit it tells itself.
_LONGEST_TEXT = 100_000_000

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


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

    @property
    def is_text(self) -> bool:
        """Whether it is a text alone, and no object."""
        return self.data.startswith(b'"')


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

    Every item is judged here, as storage would judge it: what it is may not survive the way, and what was wrong with it
    neither. One that is kept all the same goes as its problem.

    Args:
        records: Any number; read once, in constant memory.
        with_ids: Whether every record must have a caller's id.
        refusals: Where invalid items are noted; None when they are to be kept as errors.
    """

    def __init__(self, records: Iterable[RecordLike], with_ids: bool, refusals: Refusals | None) -> None:
        self._records = iter(records)
        self._with_ids = with_ids
        self._refusals = refusals
        self._taken = 0

    def __iter__(self) -> Iterator[Line]:
        while batch := list(islice(self._records, _BATCH)):
            first, self._taken = self._taken, self._taken + len(batch)
            judged = judge(batch, _LONGEST_TEXT, self._with_ids)
            if self._refusals is not None:
                for place, problem in sorted(judged.problems.items()):
                    self._refusals.note(first + place, batch[place][2], problem)
            if not self._refusals:
                yield from self._lines(batch, first, judged)

    def _lines(self, batch: Sequence[RecordLike], first: int, judged: Judged) -> Iterator[Line]:
        for place, (text, _, where, _) in enumerate(batch):
            custom_id = judged.ids[place] if judged.ids is not None else None
            data = _line(text, custom_id, self._with_ids, judged.problems.get(place))
            yield Line(first + place, where, data)


def as_item(line: Line) -> bytes:
    """Return a line as an object, which it is not where it is a text alone."""
    return b'{"text":%b}' % line.data[:-1] if line.is_text else line.data


def _line(text: object, custom_id: str | None, with_ids: bool, problem: str | None) -> bytes:
    """Return a judged item as a line of JSON; an id that is none is told as missing."""
    if problem is None and not with_ids:
        return _json(text)
    field, said = (b"text", text) if problem is None else (b"problem", told_problem(problem))
    told = b'"%b":%b}\n' % (field, _json(said)[:-1])
    return b'{"id":%b,' % _json(custom_id or None)[:-1] + told if with_ids else b"{" + told


def _json(value: object) -> bytes:
    return _encode(value).encode() + b"\n"
