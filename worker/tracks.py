"""What becomes of one message's chunks, noted in the thread that works at them, for their spans; nothing while off."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from storage import tracing
from storage.attempts import AttemptKey, Claim
from worker import measures

if TYPE_CHECKING:
    from storage.spans import Event, Spans

_here = threading.local()


class Track:
    """Follows the chunks that one message brought.

    Args:
        spans: Makes their spans in the end.
        worker_id: Who works at them.
        model: What it serves.
    """

    def __init__(self, spans: Spans, worker_id: str, model: str) -> None:
        self._spans = spans
        self._told = {"worker_id": worker_id, "model": model}
        self._claims: dict[AttemptKey, Claim] = {}
        self._claimed = 0
        self._parts: dict[AttemptKey, list[tuple[str, int, int]]] = {}
        self._events: dict[AttemptKey, list[Event]] = {}
        self._done: set[AttemptKey] = set()

    def claimed(self, claims: Sequence[Claim]) -> None:
        """Note which chunks were claimed just now."""
        self._claimed = time.time_ns()
        for claim in claims:
            self._claims[claim.key] = claim
            if claim.crashes:
                self.event([claim.key], "lease lost", reason="its worker died", crashes=claim.crashes)
            if claim.claims > 1:
                self.event([claim.key], "retry", claims=claim.claims, failures=claim.failures)

    def part(self, keys: Sequence[AttemptKey], name: str, begin: int, end: int) -> None:
        """Note what was done for some chunks, and when."""
        for key in keys or list(self._claims):
            self._parts.setdefault(key, []).append((name, begin, end))

    def event(self, keys: Sequence[AttemptKey], what: str, **told: Any) -> None:
        """Note what happened to some chunks."""
        for key in keys:
            self._events.setdefault(key, []).append((time.time_ns(), what, told))

    def committed(self, keys: Sequence[AttemptKey], written: set[AttemptKey]) -> None:
        """Note whose results were written, and whose lease had been lost meanwhile."""
        self._done |= written
        late = [key for key in keys if key not in written]
        self.event(late, "lease lost", reason="cancelled, or taken over by another worker")

    def finish(self) -> None:
        """Make the spans of those chunks that have some."""
        for key, claim in self._claims.items():
            events, done = self._events.get(key, []), key in self._done
            # What went wrong is told of every chunk of a traced job.
            plain = done and not events
            if not self._spans.sampling.takes(claim.job_id):
                continue
            if plain and not self._spans.sampling.takes_chunk(claim.job_id, claim.number):
                continue
            parts = self._parts.get(key, [])
            claim_began = next((begin for name, begin, _ in parts if name == "claim"), self._claimed)
            began = min(claim_began, self._claimed - claim.waited * 1_000_000)
            self._spans.attempted(
                claim.job_id,
                began,
                [("wait", began, claim_began), *parts],
                events,
                failed=not done,
                chunk=claim.number,
                token=claim.token,
                texts=claim.size,
                chunks=len(self._claims),
                **self._told,
            )


@contextmanager
def following(worker_id: str, model: str) -> Iterator[None]:
    """Follow the chunks of the message that the block works at.

    Args:
        worker_id: Who works at them.
        model: What it serves.
    """
    if tracing.spans is None:
        yield
        return
    _here.track = track = Track(tracing.spans, worker_id, model)
    _here.keys = []

    def note(name: str, begin: int, end: int) -> None:
        if name == "claim":
            # Of which chunks is known a moment later.
            _here.claim = (begin, end)
        else:
            track.part(_here.keys, name, begin, end)

    measures.watch(note)
    try:
        yield
    finally:
        measures.watch(None)
        _here.track = None
        track.finish()


def claimed(claims: Sequence[Claim]) -> None:
    """Note which chunks were claimed just now."""
    track = getattr(_here, "track", None)
    if track is not None:
        track.claimed(claims)
        track.part([claim.key for claim in claims], "claim", *_here.claim)


@contextmanager
def of(claims: Sequence[Claim]) -> Iterator[None]:
    """Note what is done in the block as done for these chunks alone."""
    if getattr(_here, "track", None) is None:
        yield
        return
    before, _here.keys = _here.keys, [claim.key for claim in claims]
    try:
        yield
    finally:
        _here.keys = before


def event(claims: Sequence[Claim], what: str, **told: Any) -> None:
    """Note what happened to some chunks; ids, counts and kinds alone."""
    track = getattr(_here, "track", None)
    if track is not None:
        track.event([claim.key for claim in claims], what, **told)


def committed(claims: Sequence[Claim], written: set[AttemptKey]) -> None:
    """Note whose results were written."""
    track = getattr(_here, "track", None)
    if track is not None:
        track.committed([claim.key for claim in claims], written)
