"""The waiting room before the device: calls come in from many threads, the engine's own take batches out."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from storage.contract.errors import EmbedmillError
from worker.engine.batching import Packing
from worker.engine.call import Call
from worker.engine.window import Batch, Window

#: A window holds so many batches: more sort better and so pad less; fewer let the calls of a window end sooner and
#: not all at once.
WINDOW_BATCHES = 16

#: Batches larger than twice this many tokens are halved when they are the last and cores would stand idle beside them.
TAIL_TOKENS = 256

#: Batches after which a budget that was lowered is doubled, the first time, and at most.
_CALM, _MOST_CALM = 200, 10_000

#: Seconds that a window smaller than one batch waits for a call that is being tokenized.
LINGER_SECONDS = 0.005

_log = logging.getLogger(__name__)


class WaitingRoom:
    """Calls that wait for the device, and the batches planned of them; urgent ones go first, batch by batch.

    Args:
        budget: Most tokens of a batch, padding included.
        top_up: Whether urgent encodings that do not fill a batch are joined by others: right where a fuller batch takes
            hardly longer, as on a GPU.
        takers: How many threads take batches out.
        packing: How the encoder takes batches.
    """

    def __init__(self, budget: int, top_up: bool, takers: int = 1, packing: Packing = Packing.PADDED) -> None:
        self._budget = self._most = budget
        #: Batches worked off since the budget was last changed, and after how many it is raised again.
        self._calm, self._until_calm, self._was_raised = 0, _CALM, False
        self._top_up = top_up
        self._takers = takers
        self._packing = packing
        self._changed = threading.Condition()
        self._urgent: deque[Call] = deque()
        self._bulk: deque[Call] = deque()
        self._urgent_batches: deque[Batch] = deque()
        self._bulk_batches: deque[Batch] = deque()
        self._live: set[Call] = set()
        self._tokenizing = 0
        #: By thread: how many calls or batches it has under way, and when it began with them, or last came on.
        self._begun: dict[int, tuple[int, float]] = {}
        self._last = time.monotonic()
        self._closed: EmbedmillError | None = None

    @property
    def progress(self) -> float:
        """When the oldest work under way began, on `time.monotonic`'s clock; now while there is nothing to do.

        Not when any work last ended: one thread that hangs must show, however busy the others are.
        """
        with self._changed:
            if self._begun:
                return min(since for _, since in self._begun.values())
            return self._last if self._waiting() else time.monotonic()

    @property
    def budget(self) -> int:
        """Most tokens of a batch planned from now on."""
        return self._budget

    def shrink(self, budget: int) -> None:
        """Lower the budget of batches planned from now on; never raises it, and leaves at least one token.

        After some hundred batches it is doubled, up to what it was at first: whoever took the memory may have gone.
        Where it was too much again, it is left alone for longer.
        """
        with self._changed:
            if self._was_raised:
                self._until_calm = min(2 * self._until_calm, _MOST_CALM)
            self._budget = max(1, min(self._budget, budget))
            self._calm, self._was_raised = 0, False

    @contextmanager
    def tokenizing(self) -> Iterator[None]:
        """Announce a call whose texts are being tokenized.

        Raises:
            EmbedmillError: When the room is closed.
        """
        with self._changed:
            self._check_open()
            self._tokenizing += 1
            self._begin()
        try:
            yield
        finally:
            with self._changed:
                self._tokenizing -= 1
                self._end()
                self._changed.notify_all()

    def put(self, call: Call) -> None:
        """Let a call wait for its turn.

        Raises:
            EmbedmillError: When the room is closed.
        """
        with self._changed:
            self._check_open()
            if not self._waiting():
                self._last = time.monotonic()
            self._live.add(call)
            (self._urgent if call.urgent else self._bulk).append(call)
            self._changed.notify_all()

    def leave(self, call: Call) -> None:
        """Forget a call that has ended."""
        with self._changed:
            self._live.discard(call)

    def renew(self) -> None:
        """Note that the thread that calls has come on with its batch and begins another part of it."""
        with self._changed:
            count, _ = self._begun.get(threading.get_ident(), (1, 0.0))
            self._begun[threading.get_ident()] = count, time.monotonic()

    def finished(self) -> None:
        """Note that the oldest batch that the thread that calls has taken out has been worked off."""
        with self._changed:
            self._end()
            self._last = time.monotonic()
            self._calm += 1
            if self._budget < self._most and self._calm >= self._until_calm:
                self._budget, self._calm, self._was_raised = min(self._most, 2 * self._budget), 0, True
                _log.info("batches hold at most %d tokens again", self._budget)

    def leave_off(self) -> None:
        """Note that the thread that calls works no more, whatever it had taken out."""
        with self._changed:
            self._begun.pop(threading.get_ident(), None)

    def next(self, wait: bool = True, urgent: bool = False) -> Batch | None:
        """Take the next batch out; `finished` is to be called for each.

        Args:
            wait: Whether to wait until there is one.
            urgent: Whether to take nothing but urgent ones.

        Returns:
            The batch, or None when the room is closed, or there is none yet and it is not waited for.
        """
        with self._changed:
            since = time.monotonic()
            while self._closed is None:
                batch = self._next_urgent() or (None if urgent else self._next_planned(since))
                if batch is not None:
                    self._begin()
                    if self._bulk_batches or self._urgent_batches:
                        self._changed.notify_all()
                    return batch
                if not wait:
                    return None
                self._changed.wait(LINGER_SECONDS if self._bulk and not urgent else None)
            return None

    def close(self, failure: EmbedmillError) -> None:
        """End every call with an error, now and in future."""
        with self._changed:
            self._closed = self._closed or failure
            for waiting in (self._urgent, self._bulk, self._urgent_batches, self._bulk_batches):
                waiting.clear()
            for call in self._live:
                call.fail(self._closed)
            self._changed.notify_all()

    def _begin(self) -> None:
        """Count one more under way; its own clock starts when the oldest is done."""
        count, since = self._begun.get(threading.get_ident(), (0, time.monotonic()))
        self._begun[threading.get_ident()] = count + 1, since

    def _end(self) -> None:
        count, _ = self._begun.pop(threading.get_ident(), (1, 0.0))
        if count > 1:
            self._begun[threading.get_ident()] = count - 1, time.monotonic()

    def _waiting(self) -> bool:
        return bool(self._urgent or self._bulk or self._urgent_batches or self._bulk_batches)

    def _next_urgent(self) -> Batch | None:
        if self._urgent:
            self._urgent_batches.extend(self._window(self._urgent).batches(self._budget))
        return self._fitting(self._urgent_batches) if self._urgent_batches else None

    def _next_planned(self, since: float) -> Batch | None:
        if not self._bulk_batches and self._bulk and not self._should_linger(since):
            self._bulk_batches.extend(self._window(self._bulk).batches(self._budget))
        return self._next_bulk() if self._bulk_batches else None

    def _next_bulk(self) -> Batch:
        batch = self._fitting(self._bulk_batches)
        last = not self._bulk and not self._tokenizing and len(self._bulk_batches) < self._takers
        last = last and not batch.window.lane.alone  # its batches do not depend on who is idle
        if last and self._takers > 1 and len(batch) > 1 and batch.tokens >= 2 * TAIL_TOKENS:
            batch, rest = batch.halves()
            self._bulk_batches.appendleft(rest)
        return batch

    def _fitting(self, batches: deque[Batch]) -> Batch:
        """Take the first batch, cut to the budget, which may have been halved since it was planned."""
        batch = batches.popleft()
        while len(batch) > 1 and batch.tokens > self._budget:
            batch, rest = batch.halves()
            batches.appendleft(rest)
        return batch

    def _should_linger(self, since: float) -> bool:
        if self._tokenizing == 0 or time.monotonic() - since >= LINGER_SECONDS:
            return False
        return sum(len(call.ids) for call in self._bulk) < self._budget

    def _window(self, calls: deque[Call]) -> Window:
        """Take encodings of the first call's lane out of the room, in the order the calls came."""
        lane = calls[0].lane
        parts: list[tuple[Call, int, int]] = []
        room = self._take(calls, lane, WINDOW_BATCHES * self._budget, parts)
        if calls is self._urgent and self._top_up:
            self._take(self._bulk, lane, room - (WINDOW_BATCHES - 1) * self._budget, parts)
        return Window(parts, self._packing)

    def _take(self, calls: deque[Call], lane: object, room: int, parts: list[tuple[Call, int, int]]) -> int:
        """Move encodings from waiting calls to `parts` and return how many tokens of room are left."""
        for call in [call for call in calls if call.lane == lane]:
            if room <= 0:
                break
            if call.lane.padded:
                end = min(call.size, call.taken + max(1, room // call.lane.padded))
                room -= (end - call.taken) * call.lane.padded
            else:
                first = int(call.offsets[call.taken])
                end = int(np.searchsorted(call.offsets, first + room, side="right")) - 1
                end = max(end, call.taken + 1)
                room -= int(call.offsets[end]) - first
            parts.append((call, call.taken, end))
            call.taken = end
            if end == call.size:
                calls.remove(call)
        return room

    def _check_open(self) -> None:
        if self._closed is not None:
            raise self._closed
