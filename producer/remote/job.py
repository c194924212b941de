"""The handle of one job over HTTP: poll it, wait for it, fetch its vectors, cancel or retry it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from producer.anyjob import AnyJob, check_item
from producer.output import Target, opened_output
from producer.remote.connection import Connection
from producer.remote.download import Download, SinkTarget
from producer.remote.npy import NpyTarget
from producer.remote.values import PAGE, STATUS, outcome_of, status_of
from producer.remote.watch import Watch
from storage.contract.errors import JobFailed, WrongState
from storage.contract.states import JobState
from storage.jobstatus import JobStatus
from storage.outcomes import Outcome

#: Items of one page of results: some MB of vectors.
_PAGE = 500

#: Pauses of a reader who has caught up with a running job, in seconds: the first, and the longest.
_CAUGHT_UP, _LONGEST = 0.1, 1.0


class HttpJob(AnyJob):
    """One job behind a service; holds no state of its own, so any number of processes may hold the same one.

    Args:
        job_id: The job's UUIDv7.
        connection: Leads to the service.
        notice: What the service told its submitter, or None.
    """

    def __init__(self, job_id: str, connection: Connection, notice: str | None = None) -> None:
        self.id = job_id
        self.notice = notice
        self._connection = connection
        self._path = f"/v1/jobs/{job_id}"

    def status(self) -> JobStatus:
        """Return where the job stands now.

        Raises:
            UnknownJob: When it has been deleted.
            ServiceUnavailable: When the service cannot be reached.
        """
        return status_of(self._connection.told("GET", self._path, STATUS))

    def wait(self, timeout: float | None = None, progress: Callable[[JobStatus], None] | None = None) -> JobStatus:
        """Wait until the job has ended.

        Args:
            timeout: Longest wait in seconds; default for ever.
            progress: Called with the status, first at once and then whenever it has changed, about once a second.

        Returns:
            The final status.

        Raises:
            InvalidOption: When the timeout is no number of seconds.
            WaitTimeout: When the time is over; the job goes on.
            UnknownJob: When it has been deleted.
            ServiceUnavailable: When the service cannot be reached for long.
        """
        return Watch(self._connection, self.id, timeout, progress).until_ended()

    def results(self) -> Iterator[Outcome]:
        """Yield every item's outcome in submission order; while the job runs, wait for the next one.

        Raises:
            UnknownJob: When the job has been deleted.
            ServiceUnavailable: When the service cannot be reached for long.
        """
        after, pause = 0, _CAUGHT_UP
        while True:
            page = self._page(after)
            for item in page["data"]:
                yield outcome_of(item, page.get("store_dtype"))
            following = page["next"]
            if following is None:
                return
            if following > after:
                pause = _CAUGHT_UP
            else:
                time.sleep(pause)
                pause = min(_LONGEST, 2 * pause)
            after = following

    def errors(self) -> list[Outcome]:
        """Return the items that failed, so far as all items before them have an outcome.

        Raises:
            UnknownJob: When the job has been deleted.
            ServiceUnavailable: When the service cannot be reached.
        """
        found: list[Outcome] = []
        after: int | None = 0
        while after is not None:
            page = self._page(after, status="failed")
            found += [outcome_of(item, page.get("store_dtype")) for item in page["data"]]
            following = page["next"]
            after = following if following is None or following > after else None
        return found

    def item(self, *, position: int | None = None, id: str | None = None) -> Outcome:
        """Return what is known of one item now.

        Args:
            position: Its place in the job, from 0.
            id: The caller's id that it was submitted with, in place of the position.

        Raises:
            InvalidOption: When neither says which item is meant, or both do, or one is none.
            NotFound: When the job has no such item.
            UnknownJob: When the job has been deleted.
            ServiceUnavailable: When the service cannot be reached.
        """
        wanted = check_item(position, id)
        asked = {"encoding": "base64"} | ({"custom_id": id} if wanted is None else {"position": wanted})
        told = self._connection.told("GET", f"{self._path}/items", {"position": int}, params=asked)
        return outcome_of(told, told.get("store_dtype"))

    def vectors(self) -> NDArray[np.float32]:
        """Return all vectors, row i for item i, NaN where an item has none; a download that is cut goes on.

        Returns:
            float32, shape (items, width).

        Raises:
            UnknownJob: When the job has been deleted.
            WrongState: When the job has not ended.
            JobFailed: When it could not be done as a whole.
            ServiceUnavailable: When the service cannot be reached for long.
        """
        status = self.status()
        if status.state == JobState.FAILED:
            raise JobFailed(f"Job {self.id} failed: {(status.error or {}).get('message')}")
        if not status.is_final:
            raise WrongState(f"Job {self.id} is {status.state}.", "Wait for it first: job.wait().")
        target = NpyTarget()
        Download(self._connection, self.id, {"format": "npy"}, target).run()
        return target.vectors()

    def save(
        self,
        target: Target,
        format: str | None = None,
        *,
        force: bool = False,
        only_failed: bool = False,
        encoding: str = "float",
    ) -> int:
        """Write all outcomes to a file, in submission order, and return how many items that are.

        Args:
            target: A file by its path, or a binary stream (npy, jsonl and arrow only).
            format: One of `producer.exports.FORMATS`; None goes by the file's ending.
            force: Whether an existing file is replaced.
            only_failed: Whether only failed and cancelled items are written (jsonl, arrow and parquet only).
            encoding: How jsonl writes vectors: `float`, or `base64` of little-endian float32.

        Raises:
            WrongState: When the job has not ended.
            JobFailed: When it could not be done as a whole, and npy or npz would hold nothing but its vectors.
            InvalidOption: When the options do not go together, or `target` is neither.
            OutputExists: When `target` exists and `force` is not given.
            UnknownJob: When the job has been deleted.
            ServiceUnavailable: When the service cannot be reached for long.
        """
        from producer.exports import check, check_state

        chosen = check(target, format, force=force, only_failed=only_failed, encoding=encoding, made_here=False)
        status = self.status()
        if not status.is_final:
            raise WrongState(f"Job {self.id} is {status.state}.", "Wait for it first.")
        check_state(self.id, status.state, chosen)
        asked = {"format": chosen} | ({"status": "failed"} if only_failed else {})
        asked |= {"encoding": encoding} if encoding != "float" else {}
        with opened_output(target, force) as sink:
            Download(self._connection, self.id, asked, SinkTarget(sink)).run()
        return status.failed + status.cancelled if only_failed else status.total

    def cancel(self) -> bool:
        """Cancel the job; outcomes that are there stay. Return False when it was cancelled before.

        Raises:
            UnknownJob: When it has been deleted.
            WrongState: When it has ended otherwise.
        """
        if self.status().state == JobState.CANCELLED:
            return False
        self._connection.ask("POST", f"{self._path}/cancel")
        return True

    def retry_failed(self) -> int:
        """Try the failed items again, keeping all vectors; return how many items that are.

        Raises:
            UnknownJob: When it has been deleted.
            WrongState: When the job is not completed.
        """
        # Sent again it might try the same items twice over, or find that they are being tried.
        told = self._connection.told("POST", f"{self._path}/retry", {"retried": int}, repeatable=False)
        self.notice = told.get("notice")
        return int(told["retried"])

    def delete(self) -> None:
        """Delete the job, its texts and its results.

        Raises:
            UnknownJob: When it has been deleted before.
            WrongState: When it is still at work.
        """
        self._connection.ask("DELETE", self._path, done=404)

    def _page(self, after: int, **more: str) -> dict[str, Any]:
        asked = {"after": after, "limit": _PAGE, "encoding": "base64", **more}
        return self._connection.told("GET", f"{self._path}/results", PAGE, params=asked)
