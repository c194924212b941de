"""Records out of NDJSON that comes over the wire: a line is a string, or an object; a bad line is a bad item."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from producer.decoding import TOO_LONG, whole_lines
from producer.jsonsizes import JSONSize, is_within, measured
from producer.jsonvalues import NotJSON, json_value
from producer.records import Record, told_problem

#: The field that holds the ids when nobody said which, and the first line has one.
_ID_FIELD = "id"

#: The field that says why a line has no text, for a program that judged it before it sent it.
_PROBLEM_FIELD = "problem"

#: What a line may hold that somebody else sent, and bytes of one that needs no look at it.
_MOST, _SHORT = JSONSize(500, 10_000, 1_000), 10_000


class NdjsonRecords:
    """The records of a stream, read once, in constant memory.

    Args:
        blocks: The bytes, cut anywhere.
        text_field: Field of a line that holds its text.
        id_field: Field that holds its id; None: `id`, when the first line has one.
        with_ids: Whether each line must have an id; None: it is found out by the first line.
    """

    def __init__(
        self,
        blocks: Iterable[bytes],
        text_field: str = "text",
        id_field: str | None = None,
        with_ids: bool | None = None,
    ) -> None:
        self._lines = _numbered(blocks)
        self._text_field = text_field
        self._id_field = id_field or _ID_FIELD
        self._head: list[tuple[int, object]] = []
        if with_ids is None:
            with_ids = id_field is not None or self._first_has_id()
        self.with_ids = with_ids

    def __iter__(self) -> Iterator[Record]:
        for number, value in self._head:
            yield self._record(number, value)
        for number, value in self._lines:
            yield self._record(number, value)

    def _first_has_id(self) -> bool:
        self._head = [line for line in [next(self._lines, None)] if line is not None]
        return any(isinstance(value, dict) and self._id_field in value for _, value in self._head)

    def _record(self, number: int, value: object) -> Record:
        where = f"line {number}"
        if isinstance(value, _Bad):
            return Record(None, None, where, value.reason)
        if isinstance(value, str):
            return Record(value, None, where)
        if not isinstance(value, dict):
            return Record(None, None, where, "neither a JSON string nor an object")
        problem = None
        if self._text_field not in value:
            problem = told_problem(value.get(_PROBLEM_FIELD))
            if problem is None:
                return Record(None, None, where, f"missing field {self._text_field!r}")
        given = value.get(self._id_field)
        if given is not None and not self.with_ids:
            return Record(None, None, where, "the item has an id, but the first one has none")
        # To Python true is a whole number, to a person it is no id.
        custom_id = str(given) if isinstance(given, int) and not isinstance(given, bool) else given
        return Record(value.get(self._text_field), custom_id, where, problem)


class _Bad:
    """Stands for a line that is no JSON value, and says why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def _numbered(blocks: Iterable[bytes]) -> Iterator[tuple[int, object]]:
    number = 0
    for _, piece in whole_lines(blocks):
        if piece is None:
            number += 1
            yield number, _Bad(TOO_LONG)
            continue
        lines = piece.split(b"\n")
        if not lines[-1]:
            lines.pop()
        for line in lines:
            number += 1
            yield number, _value(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)


def _value(line: bytes) -> object:
    if len(line) > _SHORT and not is_within(line, _MOST):
        return _Bad("nested too deeply" if measured(line).depth > _MOST.depth else "more values than a line may have")
    try:
        return json_value(line.decode())
    except UnicodeDecodeError as error:
        return _Bad(f"not UTF-8 at byte {error.start + 1}")
    except NotJSON as error:
        return _Bad(str(error))
