"""Times the parts of a batch where they are computed: on a GPU by events in its stream, which the host is ahead of."""

from __future__ import annotations

import time

import torch


class Clock:
    """Runs from when it is made; `mark` ends a part and begins the next.

    Args:
        device: Where the parts are computed.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._events: list[torch.cuda.Event] = []
        self._moments: list[float] = []
        self.mark()

    def mark(self) -> None:
        """Note the end of a part: now, or when the device will have come so far."""
        if self._device.type != "cuda":
            self._moments.append(time.perf_counter())
            return
        # Blocking: who waits for it sleeps, which leaves the core to the tokenizers.
        event = torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]
        self._events.append(torch.cuda.current_stream(self._device).record_event(event))

    def read(self) -> list[float]:
        """Wait until the last part has ended and return how long each took, in seconds.

        Raises:
            RuntimeError: When the device has failed meanwhile.
        """
        if self._events:
            self._events[-1].synchronize()
            pairs = zip(self._events, self._events[1:], strict=False)
            return [before.elapsed_time(after) / 1000 for before, after in pairs]
        return [after - before for before, after in zip(self._moments, self._moments[1:], strict=False)]
