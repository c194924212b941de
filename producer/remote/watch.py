"""Waits for a job's end over HTTP: by its events, and by asking now and then where those do not come through."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import httpx

from producer.pace import pause
from producer.remote.connection import Connection
from producer.remote.events import listening
from producer.remote.values import STATUS, status_of
from storage.contract.durations import checked_number
from storage.contract.errors import LimitError, NotFound, ServerError, WaitTimeout
from storage.jobstatus import JobStatus

#: The longest silence on a connection that tells events, in seconds; the service lets its heart beat oftener.
_SILENCE = 45.0

#: How often the service is asked where events do not come through, or the time is nearly over, in seconds; the less
#: often the longer it takes to answer.
_POLL = 0.5

#: The least time that is worth a connection that tells events, in seconds.
_WORTH = 1.0


class Watch:
    """One wait for one job.

    Args:
        connection: Leads to the service.
        job_id: The job.
        timeout: Longest wait in seconds; None: for ever.
        progress: Called with each status that comes; None: nobody wants to know.

    Raises:
        InvalidOption: When the timeout is no number of seconds.
    """

    def __init__(
        self,
        connection: Connection,
        job_id: str,
        timeout: float | None,
        progress: Callable[[JobStatus], None] | None,
    ) -> None:
        self._connection = connection
        self._job_id = job_id
        self._deadline = math.inf if timeout is None else time.monotonic() + checked_number("timeout", timeout)
        self._progress = progress
        self._hears = True

    def until_ended(self) -> JobStatus:
        """Return the final status.

        Raises:
            WaitTimeout: When the time is over.
            UnknownJob: When the job has been deleted.
            ServiceUnavailable: When the service cannot be reached for long.
        """
        while True:
            begin = time.monotonic()
            status = self._see(status_of(self._connection.told("GET", f"/v1/jobs/{self._job_id}", STATUS)))
            if status.is_final:
                return status
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise WaitTimeout(
                    f"Job {self._job_id} is still {status.state}: {status.pending} of {status.total} items pending.",
                    "It goes on; wait again, or ask for its status.",
                )
            rest = pause(time.monotonic() - begin, _POLL)
            # A read blocks for half of what is left at most, and none begins later: the deadline is kept.
            silence = min(_SILENCE, left / 2)
            if not self._hears or silence < _WORTH:
                time.sleep(min(rest, left))
            elif self._listen(silence):
                continue  # it has ended: one more look gives the status that counts
            else:
                time.sleep(min(rest, max(0.0, self._deadline - time.monotonic())))

    def _listen(self, silence: float) -> bool:
        """Hear events while there is time; return whether the job has ended."""
        heard = False
        try:
            with listening(self._connection, self._job_id, silence) as statuses:
                for status in statuses:
                    heard = True
                    if status is not None and self._see(status).is_final:
                        return True
                    if self._deadline - time.monotonic() < silence:
                        return False
        except httpx.ReadTimeout:
            # Something on the way may hold events back until there are many.
            self._hears = heard
        except httpx.TransportError:
            return False
        except (NotFound, LimitError):  # nothing tells events there, or too many listen already
            self._hears = False
        except ServerError:
            return False
        return False

    def _see(self, status: JobStatus) -> JobStatus:
        if self._progress is not None:
            self._progress(status)
        return status
