"""What the lines of a batch ask for: all of them judged first, then each a part of one job."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from producer.api.openai.requests import EmbeddingRequest, parse
from producer.jsonsizes import JSONSize, is_within
from producer.records import Record
from storage.batchrecords import Group, Line
from storage.contract.errors import EmbedmillError
from storage.contract.models import ModelCard
from storage.contract.options import JobOptions

#: The one endpoint of batches.
ENDPOINT = "/v1/embeddings"

#: Longest line, in bytes; invalid lines that are reported; most groups of a batch, as each is a job.
_LINE, _REPORTED, _GROUPS = 32_000_000, 100, 100

#: What a line may hold: as much as a request that is sent by itself.
_MOST = JSONSize(64, 250_000, 1_000)

#: Longest caller's id, in characters.
_ID = 512

#: Returns the model identity of a name and revision, or None while none is known; raises for a name not to be used.
Find = Callable[[str, str | None], ModelCard | None]


@dataclass(slots=True)
class Plan:
    """What is to be done for a batch, or why it cannot be.

    Args:
        lines: Every line and what it becomes.
        groups: What becomes one job.
        asked: The model, revision and options of each group.
        errors: What is wrong, in the form of a batch's `errors.data`; then nothing is to be done.
        more: Further errors that are not listed.
    """

    lines: list[Line] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    asked: list[tuple[str, str | None, JobOptions]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    more: int = 0

    def note(self, line: int | None, code: str, message: str, param: str | None = None) -> None:
        """Note what is wrong with a line."""
        if len(self.errors) < _REPORTED:
            self.errors.append({"code": code, "line": line, "message": message, "param": param})
        else:
            self.more += 1


def lines_of(blocks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file that are not blank, with their numbers, from 1.

    Args:
        blocks: The bytes of the file.
    """
    rest, number = b"", 0
    for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            number += 1
            if not line.isspace() and line:
                yield number, line
        if len(rest) > _LINE:
            # Told as a line that is no JSON; what follows is not kept in memory.
            yield number + 1, b""
            return
    if rest.strip():
        yield number + 1, rest


def plan(blocks: Iterable[bytes], default: str, find: Find, most_lines: int, alive: Callable[[], None]) -> Plan:
    """Read a whole file and find out what its lines become.

    Args:
        blocks: The bytes of the file.
        default: The model of lines that name none.
        find: Tells of models.
        most_lines: Most lines of a batch.
        alive: Called now and then, so that others see that somebody works.
    """
    made = _Planner(default, find)
    for number, line in lines_of(blocks):
        if len(made.plan.lines) >= most_lines:
            made.plan.note(number, "too_many_tasks", f"A batch has at most {most_lines:,} lines.")
            break
        made.take(number, line)
        if number % 1000 == 0:
            alive()
    if not made.plan.lines and not made.plan.errors:
        made.plan.note(None, "empty_file", "The input file has no lines.")
    return made.plan


def records(blocks: Iterable[bytes], plan: Plan, group: int) -> Iterator[Record]:
    """Yield the texts of one group, in order, from the file that the plan was made of."""
    for (number, line), planned in zip(lines_of(blocks), plan.lines, strict=True):
        if planned.group == group:
            for text in parse(json.loads(line)["body"]).texts:
                yield Record(text, None, f"line {number}")


class _Planner:
    """Judges line after line."""

    def __init__(self, default: str, find: Find) -> None:
        self.plan = Plan()
        self._default = default
        self._find = find
        self._seen: set[str] = set()
        self._numbers: dict[tuple[str, str | None, str], int] = {}
        self._cards: dict[tuple[str, str | None], ModelCard | EmbedmillError | None] = {}

    def take(self, number: int, line: bytes) -> None:
        """Judge a line and give it its place."""
        if not is_within(line, _MOST):
            self.plan.note(number, "invalid_json_line", "This line has more values than a request may have.")
            return
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            self.plan.note(number, "invalid_json_line", "This line is not a JSON object.")
            return
        if not isinstance(request, dict):
            self.plan.note(number, "invalid_json_line", "This line is not a JSON object.")
            return
        custom_id = self._custom_id(number, request.get("custom_id"))
        if request.get("method") != "POST":
            self.plan.note(number, "invalid_method", "method must be POST.", "method")
        elif request.get("url") != ENDPOINT:
            self.plan.note(number, "invalid_url", f"url must be {ENDPOINT}, as the batch's endpoint.", "url")
        elif not isinstance(request.get("body"), dict):
            self.plan.note(number, "invalid_body", "body must be a JSON object.", "body")
        else:
            self._place(number, custom_id, request["body"])

    def _custom_id(self, number: int, custom_id: object) -> str:
        if not isinstance(custom_id, str) or not 0 < len(custom_id) <= _ID or not _is_clean(custom_id):
            self.plan.note(number, "missing_custom_id", f"custom_id must have 1 to {_ID} characters.", "custom_id")
            return ""
        if custom_id in self._seen:
            self.plan.note(number, "duplicate_custom_id", "This custom_id has come before.", "custom_id")
        self._seen.add(custom_id)
        return custom_id

    def _place(self, number: int, custom_id: str, body: dict[str, Any]) -> None:
        try:
            asked = parse(body)
            card = self._card(asked)
            if card is not None:
                asked.options.check_against(card)
        except EmbedmillError as error:
            self.plan.note(number, error.code, str(error), getattr(error, "param", None) or "body")
            return
        # Vectors are kept at full width and cut when they are written, so that one job serves all dimensions; those
        # that are not normalised are cut by the worker.
        kept = asked.options if asked.options.normalize is False else replace(asked.options, dimensions=None)
        cut = None if asked.options.normalize is False else asked.options.dimensions
        group = self._group(number, asked, kept)
        if group is not None:
            self._add(custom_id, group, len(asked.texts), cut, asked.base64)

    def _card(self, asked: EmbeddingRequest) -> ModelCard | None:
        wanted = (asked.model.strip() if asked.model else self._default, asked.revision)
        if wanted not in self._cards:
            try:
                self._cards[wanted] = self._find(*wanted)
            except EmbedmillError as error:
                self._cards[wanted] = error
        found = self._cards[wanted]
        if isinstance(found, EmbedmillError):
            raise found
        return found

    def _group(self, number: int, asked: EmbeddingRequest, options: JobOptions) -> int | None:
        model = asked.model.strip() if asked.model else self._default
        key = (model, asked.revision, json.dumps(options.to_dict(), sort_keys=True))
        if key not in self._numbers:
            if len(self._numbers) >= _GROUPS:
                self.plan.note(number, "too_many_models", f"A batch has at most {_GROUPS} models and sets of options.")
                return None
            self._numbers[key] = len(self._numbers)
            self.plan.groups.append(Group(self._numbers[key], None, model, 0, 0))
            self.plan.asked.append((model, asked.revision, options))
        return self._numbers[key]

    def _add(self, custom_id: str, number: int, size: int, dimensions: int | None, base64: bool) -> None:
        group = self.plan.groups[number]
        self.plan.lines.append(Line(custom_id, number, group.items, size, dimensions, base64))
        self.plan.groups[number] = replace(group, lines=group.lines + 1, items=group.items + size)


def _is_clean(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True
