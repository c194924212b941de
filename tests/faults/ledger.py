"""What was submitted: JSON lines in a file that survives whoever wrote them, since each is synced before it counts."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.faults.texts import texts_of


@dataclass(frozen=True)
class Line:
    """One submission; written before it begins (without a job) and once more after it was accepted (with its job).

    Args:
        tag: Names it; the texts are made of it.
        count: Number of texts.
        length: Least characters of a text.
        ids: Whether the items have callers' ids.
        key: The idempotency key, or None.
        markers: By position: the word that makes the encoder misbehave on that text.
        options: The job's options beyond the defaults.
        outcome: State in which the job is to end; `any`: whatever final one.
        job: The job's id once submit has returned it.
        digest: SHA-256 of all texts, each followed by a zero byte.
    """

    tag: str
    count: int
    length: int = 0
    ids: bool = False
    key: str | None = None
    markers: dict[int, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    outcome: str = "completed"
    job: str | None = None
    digest: str = ""

    def accepted(self, job: str) -> Line:
        """Return the line with its job."""
        digest = sha256()
        for text in texts_of(self.tag, 0, self.count, self.length, self.markers):
            digest.update(text.encode() + b"\0")
        return replace(self, job=job, digest=digest.hexdigest())


class Ledger:
    """An append-only file; any number of processes may write.

    Args:
        path: Where it lies.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, line: Line) -> None:
        """Write one line; when this returns it is on the disk."""
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, json.dumps(asdict(line)).encode() + b"\n")
            os.fsync(file)
        finally:
            os.close(file)

    def lines(self) -> list[Line]:
        """Return all that was written."""
        if not self.path.exists():
            return []
        read = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [Line(**{**line, "markers": {int(k): v for k, v in line["markers"].items()}}) for line in read]

    def accepted(self) -> list[Line]:
        """Return the lines of submissions that returned a job, the last word on each."""
        return list({line.job: line for line in self.lines() if line.job is not None}.values())

    def intended(self) -> dict[str, Line]:
        """Return every submission that was begun, by tag."""
        return {line.tag: line for line in self.lines()}
