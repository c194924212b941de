"""Judges a database by what was accepted: plain SQL, NumPy and a ledger; nothing of the program under test.

Lost is an item without an outcome, twice a chunk written more often than it was asked for, differing a vector or an
error other than the one that belongs to the text, stuck what will never end, leaked a text where none may be.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from tests.faults.ledger import Ledger, Line
from tests.faults.plain import PlainDatabase
from tests.faults.texts import CANARY, id_of, tag_in, text_of, texts_of

_FINAL = ("completed", "failed", "cancelled", "expired")

#: Chunks read at once.
_PAGE = 64

_SHOWN = 10


@dataclass
class Report:
    """What was found wrong, a sentence each; and how much was looked at."""

    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    jobs: int = 0
    items: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not (self.lost or self.twice or self.differing or self.stuck or self.leaked)

    def assert_clean(self) -> None:
        """Fail with what was found."""
        assert self.is_clean, self.summary()

    def summary(self) -> str:
        """Return the numbers, and the first findings of each kind."""
        lines = [f"{self.jobs} jobs, {self.items} items"]
        for kind in ("lost", "twice", "differing", "stuck", "leaked"):
            found = getattr(self, kind)
            lines += [f"{kind}: {len(found)}", *(f"  {sentence}" for sentence in found[:_SHOWN])]
        return "\n".join(lines)


class Oracle:
    """Looks at everything once, when all has come to rest.

    Args:
        database: The database, with its commit log.
        ledger: What was accepted.
    """

    def __init__(self, database: PlainDatabase, ledger: Ledger) -> None:
        self._db = database
        self._ledger = ledger

    def judge(self, logs: Path | None = None, redis: list[bytes] | None = None) -> Report:
        """Return what is wrong.

        Args:
            logs: Folder whose `*.log` files must not hold a text.
            redis: All keys and values there are, which must not either.
        """
        report = Report()
        accepted = {line.job: line for line in self._ledger.accepted()}
        intended = self._ledger.intended()
        query = "SELECT CAST(id AS TEXT), state, total, generation, idempotency_key FROM jobs WHERE deleted_at IS NULL"
        sealed = {row[0]: row for row in self._db.rows(query)}
        for job_id, line in accepted.items():
            state = sealed[job_id][1] if job_id in sealed else "missing"
            if state in ("missing", "accepting"):
                report.lost.append(f"{line.tag}: job {job_id} was accepted and is {state}, {line.count} items")
        for job_id, row in sealed.items():
            if row[1] == "accepting":
                self._judge_unsealed(job_id, report)
                continue
            known = accepted.get(job_id) or intended.get(self._tag_of(job_id))
            if known is None:
                report.differing.append(f"job {job_id} holds texts that nobody submitted")
            else:
                self._judge_job(row, known, report)
        self._judge_keys(sealed, report)
        self._judge_log(report)
        self._judge_leaks(logs, redis or [], report)
        return report

    def _tag_of(self, job_id: str) -> str:
        """Return the tag of a job that was sealed by somebody who did not live to write it down."""
        query = "SELECT texts FROM inputs WHERE CAST(job_id AS TEXT) = ? ORDER BY number LIMIT 1"
        blob = self._db.value(query, job_id)
        return tag_in(_unpacked(blob)[0]) if blob is not None else ""

    def _judge_unsealed(self, job_id: str, report: Report) -> None:
        touched = "SELECT count(*) FROM chunks WHERE CAST(job_id AS TEXT) = ? AND state <> 'pending'"
        results = "SELECT count(*) FROM results WHERE CAST(job_id AS TEXT) = ?"
        if self._db.value(touched, job_id) or self._db.value(results, job_id):
            report.differing.append(f"job {job_id} was never sealed and was worked on")

    def _judge_job(self, row: tuple[Any, ...], line: Line, report: Report) -> None:
        job_id, state, total, _, _ = row
        name = f"{line.tag} ({job_id})"
        report.jobs += 1
        if state not in _FINAL:
            report.stuck.append(f"{name} is {state}")
            return
        if line.outcome not in (state, "any"):
            report.differing.append(f"{name} is {state}, not {line.outcome}")
        if total != line.count:
            report.differing.append(f"{name} says {total} items, not {line.count}")
        position, outcomes = 0, 0
        for chunk in self._chunks(job_id):
            if chunk["first"] != position:
                kind = report.lost if chunk["first"] > position else report.twice
                kind.append(f"{name}: chunk {chunk['number']} begins at {chunk['first']}, not at {position}")
            position = chunk["first"] + chunk["size"]
            outcomes += self._judge_chunk(name, state, chunk, line, report)
        report.items += line.count
        if position != line.count:
            report.lost.append(f"{name}: chunks end at {position} of {line.count}")
        if state == "completed" and outcomes != line.count:
            report.lost.append(f"{name}: {outcomes} outcomes for {line.count} items")

    def _chunks(self, job_id: str) -> Iterator[dict[str, Any]]:
        names = ["number", "first", "size", "state", "succeeded", "failed", "token"]
        columns = ", ".join(f"c.{name}" for name in names)
        query = (
            f"SELECT {columns}, r.token, r.width, r.dtype, r.vectors, r.errors, i.ids FROM chunks c"
            " LEFT JOIN results r ON r.job_id = c.job_id AND r.number = c.number"
            " LEFT JOIN inputs i ON i.job_id = c.job_id AND i.number = c.number"
            f" WHERE c.job_id = ? AND c.state <> 'split' AND (c.first, c.number) > (?, ?)"
            f" ORDER BY c.first, c.number LIMIT {_PAGE}"
        )
        names += ["written", "width", "dtype", "vectors", "errors", "ids"]
        last = (-1, -1)
        while page := self._db.rows(query, (job_id, *last)):
            for found in page:
                chunk = dict(zip(names, found, strict=True))
                yield chunk
                last = (chunk["first"], chunk["number"])

    def _judge_chunk(self, name: str, state: str, chunk: dict[str, Any], line: Line, report: Report) -> int:
        """Judge one chunk of a final job; return how many of its items have an outcome."""
        where = f"{name}: chunk {chunk['number']}"
        if chunk["state"] in ("pending", "dispatched", "leased"):
            report.stuck.append(f"{where} is {chunk['state']} in a job that is {state}")
            return 0
        start, stop = chunk["first"], chunk["first"] + chunk["size"]
        if line.ids and json.loads(chunk["ids"]) != [id_of(line.tag, i) for i in range(start, stop)]:
            report.differing.append(f"{where} has the ids of others")
        if chunk["state"] == "cancelled":
            return 0
        if chunk["vectors"] is None:
            report.lost.append(f"{where} is done and has no result")
            return 0
        if chunk["written"] > chunk["token"]:
            report.differing.append(f"{where} was written with token {chunk['written']} of {chunk['token']}")
        dtype = "<f2" if chunk["dtype"] == "float16" else "<f4"
        found = np.frombuffer(chunk["vectors"], dtype=dtype).reshape(-1, chunk["width"])
        errors = chunk["errors"] or {}
        errors = {int(k): v[0] for k, v in (json.loads(errors) if isinstance(errors, str) else errors).items()}
        expected = {i - start: _code(line.markers[i]) for i in range(start, stop) if i in line.markers}
        if errors != expected:
            report.differing.append(f"{where} has errors {errors}, not {expected}")
        if (chunk["succeeded"], chunk["failed"]) != (chunk["size"] - len(errors), len(errors)):
            report.differing.append(f"{where} counts {chunk['succeeded']} + {chunk['failed']} of {chunk['size']}")
        wanted = _vectors(line, start, stop).astype(dtype)
        wanted[list(expected)] = np.nan
        if found.shape != wanted.shape:
            report.differing.append(f"{where} has vectors of shape {found.shape}, not {wanted.shape}")
        elif found.tobytes() != wanted.tobytes():
            bad = np.flatnonzero((found.view(f"u{found.itemsize}") != wanted.view(f"u{found.itemsize}")).any(axis=1))
            report.differing.append(f"{where} has {len(bad)} wrong vectors, first at {start + int(bad[0])}")
        return int(np.isfinite(found).all(axis=1).sum()) + len(errors)

    def _judge_keys(self, sealed: dict[str, tuple[Any, ...]], report: Report) -> None:
        keys = [row[4] for row in sealed.values() if row[1] != "accepting" and row[4] is not None]
        report.twice += [f"{keys.count(key)} jobs have the key {key}" for key in set(keys) if keys.count(key) > 1]

    def _judge_log(self, report: Report) -> None:
        """Each round of a job may write each of its chunks once: the first, and one for each `retry`."""
        query = (
            "SELECT l.job_id, l.number, count(*), count(DISTINCT l.token), j.generation"
            " FROM commit_log l JOIN jobs j ON CAST(j.id AS TEXT) = l.job_id"
            " GROUP BY l.job_id, l.number, j.generation"
            " HAVING count(*) > j.generation + 1 OR count(*) > count(DISTINCT l.token)"
        )
        for job_id, number, times, tokens, generation in self._db.rows(query):
            report.twice.append(
                f"chunk {number} of job {job_id} was written {times} times by {tokens} attempts, "
                f"{generation + 1} rounds were asked for"
            )

    def _judge_leaks(self, logs: Path | None, redis: list[bytes], report: Report) -> None:
        canary = CANARY.encode()
        if any(canary in value for value in redis):
            report.leaked.append("a text is in Redis")
        for path in sorted(logs.rglob("*.log")) if logs is not None else []:
            with path.open("rb") as lines:
                if any(canary in line for line in lines):
                    report.leaked.append(f"a text is in {path.name}")


def _code(marker: str) -> str:
    """Return the error that a marked text must end with."""
    return "encoder_failed" if marker == "!raise" else "poison"


def _vectors(line: Line, start: int, stop: int) -> NDArray[np.float64]:
    """Compute vectors anew: eight odd whole numbers from a hash of the text, over the root of their squares' sum."""
    hashed = b"".join(
        blake2b(text.encode(), digest_size=16).digest()
        for text in texts_of(line.tag, start, stop, line.length, line.markers)
    )
    numbers = 2.0 * np.frombuffer(hashed, dtype="<i2").astype(np.float64).reshape(stop - start, 8) + 1.0
    # Sums of squares of such numbers are exact in float64, in whatever order they are added.
    sizes = np.sqrt(np.einsum("ij,ij->i", numbers, numbers))
    return (numbers / sizes[:, None]).astype(np.float32)


def _unpacked(blob: bytes) -> list[str]:
    """Decode a chunk's texts from what the database page says of them: a count, lengths, and UTF-8 end to end."""
    data = zstandard.ZstdDecompressor().decompress(blob)
    count = int.from_bytes(data[:4], "little")
    lengths = np.frombuffer(data[4 : 4 + 4 * count], dtype="<u4").tolist()
    found, at = [], 4 + 4 * count
    for length in lengths:
        found.append(data[at : at + length].decode())
        at += length
    return found


def expected_vector(tag: str, position: int, length: int = 0) -> tuple[float, ...]:
    """Return one vector without NumPy, for tests of the oracle itself."""
    digest = blake2b(text_of(tag, position, length).encode(), digest_size=16).digest()
    numbers = [2 * int.from_bytes(digest[i : i + 2], "little", signed=True) + 1 for i in range(0, 16, 2)]
    root = math.sqrt(sum(number * number for number in numbers))
    return tuple(number / root for number in numbers)
