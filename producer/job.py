"""The handle of one job: poll it, wait for it, fetch its vectors, cancel or retry it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from producer.anyjob import AnyJob, check_item
from producer.output import Target
from producer.pace import pause
from storage import tracing
from storage.contract.durations import checked_number
from storage.contract.errors import JobFailed, NotFound, WaitTimeout, WrongState
from storage.contract.states import FINAL_JOB_STATES, JobState
from storage.hints import Hints
from storage.jobrecords import JobRecord
from storage.jobstatus import JobStatus
from storage.outcomes import Outcome, Page
from storage.stores import Stores

#: How often a waiting job is looked at when Redis hints nothing, in seconds.
POLL = 1.0

#: The same while somebody watches the progress.
WATCHED_POLL = 0.25


class Job(AnyJob):
    """One job, by its id; holds no state of its own, so any number of processes may hold the same one.

    Args:
        job_id: The job's UUIDv7.
        stores: Where it is kept.
        hints: Tells when it ends.
        dispatch: Called after a retry, to send what is pending.
    """

    def __init__(self, job_id: str, stores: Stores, hints: Hints, dispatch: Callable[[JobRecord], str | None]) -> None:
        self.id = job_id
        self.notice = None
        self._stores = stores
        self._hints = hints
        self._dispatch = dispatch

    def record(self) -> JobRecord:
        """Return what the job was submitted with.

        Raises:
            UnknownJob: When it has been deleted.
        """
        return self._stores.jobs.get(self.id)

    def status(self) -> JobStatus:
        """Return where the job stands now.

        Raises:
            UnknownJob: When it has been deleted.
        """
        return self._stores.statuses.get(self.id)

    def wait(self, timeout: float | None = None, progress: Callable[[JobStatus], None] | None = None) -> JobStatus:
        """Wait until the job has ended.

        Args:
            timeout: Longest wait in seconds; default for ever.
            progress: Called with the status, first at once and then about four times a second; of a huge job the less
                often, so that counting takes a twentieth of the time.

        Returns:
            The final status.

        Raises:
            InvalidOption: When the timeout is no number of seconds.
            WaitTimeout: When the time is over; the job goes on.
            UnknownJob: When it has been deleted.
        """
        deadline = None if timeout is None else time.monotonic() + checked_number("timeout", timeout)
        due = 0.0
        with self._hints.listen() as listener:
            while True:
                now = time.monotonic()
                over = deadline is not None and now >= deadline
                # Its state is one row; counts are sums over all its chunks, and asked for where somebody hears them.
                ended = self.record().state in FINAL_JOB_STATES
                if ended or over or (progress is not None and now >= due):
                    status = self.status()
                    due = time.monotonic() + pause(time.monotonic() - now, WATCHED_POLL)
                    if progress is not None:
                        progress(status)
                    if status.is_final:
                        return status
                    if over:
                        raise WaitTimeout(
                            f"Job {self.id} is still {status.state}: {status.pending} of {status.total} items pending.",
                            "It goes on; wait again, or ask for its status.",
                        )
                now = time.monotonic()
                until = [now + POLL, *([due] if progress is not None else []), *([deadline] if deadline else [])]
                listener.wait(self.id, max(0.0, min(until) - now))

    def pages(self, settled_only: bool = False, around: int = 0) -> Iterator[Page]:
        """Yield the job's results chunk by chunk, in submission order, as bytes that need no decoding.

        Args:
            settled_only: Stop before the first chunk that still has pending items.
            around: Begin with the chunk that holds the item of this position.

        Raises:
            UnknownJob: When the job is deleted before all of it was read: no page is missing silently.
        """
        total = self.record().total
        if around >= total:
            return iter(())
        first = self._stores.results.first_around(self.id, around) if around else 0
        return self._pages(first, total, settled_only)

    def _pages(self, first: int, total: int, settled_only: bool) -> Iterator[Page]:
        """Yield the pages from item `first` on; a job is marked as deleted before any row of it goes."""
        if first == total:
            return
        for page in self._stores.results.pages(self.id, first, settled_only):
            if page.first != first:
                self.record()
            first = page.first + page.size
            yield page
            if first == total:
                return
        self.record()

    def results(self) -> Iterator[Outcome]:
        """Yield every item's outcome in submission order; while the job runs, wait for the next one.

        Raises:
            UnknownJob: When the job has been deleted.
        """
        following = 0
        with self._hints.listen() as listener:
            while True:
                # The state is read first: pages read after the end are complete.
                record = self.record()
                is_final = record.state in FINAL_JOB_STATES
                for page in self._pages(following, record.total, settled_only=not is_final):
                    following = page.first + page.size
                    yield from page.outcomes()
                if is_final:
                    return
                listener.wait(self.id, WATCHED_POLL)

    def errors(self) -> list[Outcome]:
        """Return the items that failed, so far.

        Raises:
            UnknownJob: When the job is deleted before all of it was read, or has been.
        """
        return [outcome for page in self.pages() if page.errors for outcome in page.outcomes() if outcome.error]

    def item(self, *, position: int | None = None, id: str | None = None) -> Outcome:
        """Return what is known of one item now.

        Args:
            position: Its place in the job, from 0.
            id: The caller's id that it was submitted with, in place of the position.

        Raises:
            InvalidOption: When neither says which item is meant, or both do, or one is none.
            NotFound: When the job has no such item.
            UnknownJob: When the job has been deleted.
        """
        wanted, store = check_item(position, id), self._stores.results
        self.record()
        page = store.find(self.id, id or "") if wanted is None else store.page_at(self.id, wanted)
        for outcome in page.outcomes() if page is not None else ():
            if outcome.id == id if wanted is None else outcome.position == wanted:
                return outcome
        raise NotFound("The job has no such item.", "Positions count from 0; ids are those it was submitted with.")

    def vectors(self) -> NDArray[np.float32]:
        """Return all vectors, row i for item i, NaN where an item has none.

        Returns:
            float32, shape (items, width).

        Raises:
            UnknownJob: When the job is deleted before all of it was read, or has been.
            WrongState: When the job has not ended.
            JobFailed: When it could not be done as a whole.
        """
        record = self.record()  # not its status: nobody who waits for a few vectors needs sums over chunks
        if record.state == JobState.FAILED:
            raise JobFailed(f"Job {self.id} failed: {(self.status().error or {}).get('message')}")
        if record.state not in FINAL_JOB_STATES:
            raise WrongState(f"Job {self.id} is {record.state}.", "Wait for it first: job.wait().")
        matrix: NDArray[np.float32] | None = None
        for page in self._pages(0, record.total, settled_only=False):
            part = page.matrix()
            if part is not None:
                if matrix is None:
                    matrix = np.full((record.total, page.width), np.nan, dtype=np.float32)
                matrix[page.first : page.first + page.size] = part
        return matrix if matrix is not None else np.full((record.total, self.width()), np.nan, dtype=np.float32)

    def width(self) -> int:
        """Return how many components the job's vectors have; 0 when nothing is known of the model yet."""
        record = self.record()
        asked = record.options.get("dimensions")
        if asked:
            return int(asked)
        served = [s.card for s in self._stores.workers.find(record.model) if s.card.id == record.model_id]
        return served[0].width if served else 0

    def cancel(self) -> bool:
        """Cancel the job; outcomes that are there stay. Return False when it was cancelled before.

        Raises:
            WrongState: When it has ended otherwise.
        """
        cancelled = self._stores.jobs.cancel(self.id)
        if cancelled:
            tracing.ended([self.id], self._stores.statuses.many)
        return cancelled

    def retry_failed(self) -> int:
        """Try the failed items again, keeping all vectors; return how many items that are.

        Raises:
            WrongState: When the job is not completed.
        """
        items = self._stores.jobs.retry_failed(self.id)
        if items:
            self.notice = self._dispatch(self.record())
        return items

    def delete(self) -> None:
        """Delete the job, its texts and its results; one that is still being submitted takes no more of them.

        Raises:
            WrongState: When it is still at work.
        """
        if self.record().state != JobState.ACCEPTING or not self._stores.purges.discard(self.id):
            self._stores.purges.delete(self.id)

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
            UnknownJob: When the job is deleted before all of it was read, or has been.
        """
        from producer.exports import ExportHeader, check, check_state, write

        chosen = check(target, format, force=force, only_failed=only_failed, encoding=encoding)
        status, record = self.status(), self.record()
        if not status.is_final:
            raise WrongState(f"Job {self.id} is {status.state}.", "Wait for it first.")
        check_state(self.id, status.state, chosen)
        kept = record.options["store_dtype"]
        header = ExportHeader(self.id, record.model, record.total, self.width(), kept, record.has_ids)
        return write(header, self.pages(), target, chosen, force=force, only_failed=only_failed, encoding=encoding)
