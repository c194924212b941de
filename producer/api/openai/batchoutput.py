"""The output of a batch: one line for each of its lines, in one of two files, whatever became of it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from producer.api.openai.vectors import data_of, shortened
from storage.batchrecords import Batch, Group, Line
from storage.contract.errors import ServerError, UnknownJob
from storage.contract.states import JobState
from storage.filewriter import FileWriter
from storage.outcomes import Outcome
from storage.stores import Stores

#: Bytes gathered before they are handed to a writer.
_GATHERED = 1 << 20

_EXPIRED = ("batch_expired", "This request could not be executed before the completion window expired.")
_CANCELLED = ("batch_cancelled", "This request was not executed: the batch was cancelled.")


@dataclass(slots=True)
class Counts:
    """What was written.

    Args:
        completed: Lines with all their vectors.
        failed: All others.
        unmade: Those of them that were never executed.
        tokens: Tokens that were read for the first.
    """

    completed: int = 0
    failed: int = 0
    unmade: int = 0
    tokens: int = 0


def write(stores: Stores, batch: Batch, alive: Callable[[], None]) -> tuple[Counts, FileWriter, FileWriter]:
    """Write both files of a batch whose jobs have all ended, under new ids; nothing is left of them when it is cut off.

    Args:
        stores: Where the vectors are.
        batch: The batch. What it did not do was cancelled, where it was; else its time was over.
        alive: Called now and then.

    Returns:
        What was written, and the two files, which nobody sees yet: of the lines that succeeded and of all others.
    """
    output, failures = files = [
        stores.files.open(
            f"{batch.id}_{name}.jsonl", "batch_output", batch.key_id, life=batch.output_life, state="written"
        )
        for name in ("output", "error")
    ]
    try:
        counts = _write(stores, batch, _Gathered(output), _Gathered(failures), alive)
        for writer in files:
            writer.close()
    except Exception:
        # Whoever goes on writes files of his own; these would lie there for a day.
        for writer in files:
            with suppress(ServerError):
                writer.discard()
        raise
    return counts, output, failures


def _write(stores: Stores, batch: Batch, good: _Gathered, bad: _Gathered, alive: Callable[[], None]) -> Counts:
    counts = Counts()
    groups = stores.batches.groups(batch.id)
    readers = [_Reader(stores, group) for group in groups]
    unmade = _CANCELLED if batch.cancelling_at is not None else _EXPIRED
    for number, line in enumerate(stores.batches.lines(batch.id)):
        outcomes = readers[line.group].take(line.size)
        if all(outcome.vector is not None for outcome in outcomes):
            good.add(_succeeded(line, outcomes, groups[line.group].model))
            counts.completed += 1
            counts.tokens += sum(outcome.tokens for outcome in outcomes)
        else:
            told, was_made = _failed(line, outcomes, readers[line.group].error, unmade)
            bad.add(told)
            counts.failed += 1
            counts.unmade += not was_made
        if number % 1000 == 0:
            alive()
    good.flush()
    bad.flush()
    return counts


class _Gathered:
    """Hands lines on in large pieces."""

    def __init__(self, writer: FileWriter) -> None:
        self._writer = writer
        self._lines: list[bytes] = []
        self._size = 0

    def add(self, line: str) -> None:
        self._lines.append(line.encode())
        self._size += len(self._lines[-1])
        if self._size >= _GATHERED:
            self.flush()

    def flush(self) -> None:
        self._writer.write(b"".join(self._lines))
        self._lines, self._size = [], 0


class _Reader:
    """The outcomes of one group's job, one after the other; those of a job that is not there count as cancelled."""

    def __init__(self, stores: Stores, group: Group) -> None:
        self._outcomes = self._read(stores, group)
        #: Why the job as a whole failed: code and message, or None.
        self.error: tuple[str, str] | None = None
        self._position = 0
        if group.job_id is not None:
            try:
                status = stores.statuses.get(group.job_id)
                if status.state == JobState.FAILED and status.error is not None:
                    self.error = (status.error["code"], status.error["message"])
            except UnknownJob:
                self.error = ("job_not_found", "The job of this request was deleted.")

    def take(self, size: int) -> list[Outcome]:
        found = []
        for _ in range(size):
            outcome = next(self._outcomes, None)
            found.append(outcome or Outcome(self._position, None, "cancelled", None, 0, False, None))
            self._position += 1
        return found

    @staticmethod
    def _read(stores: Stores, group: Group) -> Iterator[Outcome]:
        if group.job_id is None:
            return
        for page in stores.results.pages(group.job_id):
            yield from page.outcomes()


def _succeeded(line: Line, outcomes: list[Outcome], model: str) -> str:
    matrix = shortened(
        np.stack([outcome.vector for outcome in outcomes if outcome.vector is not None]), line.dimensions
    )
    tokens = sum(outcome.tokens for outcome in outcomes)
    usage = json.dumps({"prompt_tokens": tokens, "total_tokens": tokens})
    data = data_of(matrix, line.base64)
    body = f'{{"object":"list","data":{data},"model":{json.dumps(model)},"usage":{usage}}}'
    response = f'{{"status_code":200,"request_id":"{_random()}","body":{body}}}'
    head = f'{{"id":"batch_req_{_random()}","custom_id":{json.dumps(line.custom_id)}'
    return f'{head},"response":{response},"error":null}}\n'


def _failed(
    line: Line, outcomes: list[Outcome], job_error: tuple[str, str] | None, unmade: tuple[str, str]
) -> tuple[str, bool]:
    """Return a line of the error file, and whether its request was executed at all."""
    told = {"id": f"batch_req_{_random()}", "custom_id": line.custom_id}
    error = next(((place, one.error) for place, one in enumerate(outcomes) if one.error is not None), None)
    if error is None and job_error is None:
        code, message = unmade
        return json.dumps(told | {"response": None, "error": {"code": code, "message": message}}) + "\n", False
    if error is not None:
        code, message, param = error[1].code, f"input {error[0]}: {error[1].message}", "input"
    else:
        assert job_error is not None
        (code, message), param = job_error, ""
    detail = {"message": message, "type": "invalid_request_error", "param": param or None, "code": code}
    response = {"status_code": 400, "request_id": _random(), "body": {"error": detail}}
    return json.dumps(told | {"response": response, "error": None}) + "\n", True


def _random() -> str:
    return secrets.token_hex(16)
