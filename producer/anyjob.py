"""The handle of one job, wherever it is kept: what handles over storage and over HTTP have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from producer.output import Target
from storage.contract.errors import InvalidOption
from storage.contract.options import check_text, shown
from storage.jobstatus import JobStatus
from storage.outcomes import Outcome

#: Largest position that is asked about; what both databases can compare.
LAST_POSITION = 2**62


def check_item(position: object, id: object) -> int | None:
    """Return the position of the item that is meant, or None where it is meant by its id.

    Args:
        position: What a caller gave as such, or None.
        id: The same.

    Raises:
        InvalidOption: When neither says which item is meant, or both do, or one is none.
    """
    if (position is None) == (id is None):
        raise InvalidOption("Either position or id says which item is meant.", "Give one of them.")
    if position is None:
        check_text("id", id)
        return None
    whole = int(position) if isinstance(position, Integral) and not isinstance(position, bool) else -1
    if not 0 <= whole <= LAST_POSITION:
        raise InvalidOption(f"position must be a whole number of at least 0, not {shown(position)}.")
    return whole


class AnyJob(ABC):
    """One job, by its id; holds no state of its own, so any number of processes may hold the same one."""

    #: The job's UUIDv7.
    id: str
    #: What the submitter should know, such as that the job waits for a worker; None when all is well.
    notice: str | None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    @abstractmethod
    def status(self) -> JobStatus:
        """Return where the job stands now."""

    @abstractmethod
    def wait(self, timeout: float | None = None, progress: Callable[[JobStatus], None] | None = None) -> JobStatus:
        """Wait until the job has ended and return its final status.

        Args:
            timeout: Longest wait in seconds; default for ever.
            progress: Called with the status, first at once and then as it changes.

        Raises:
            WaitTimeout: When the time is over; the job goes on.
        """

    @abstractmethod
    def results(self) -> Iterator[Outcome]:
        """Yield every item's outcome in submission order; while the job runs, wait for the next one."""

    @abstractmethod
    def errors(self) -> list[Outcome]:
        """Return the items that failed, so far."""

    @abstractmethod
    def item(self, *, position: int | None = None, id: str | None = None) -> Outcome:
        """Return what is known of one item now.

        Args:
            position: Its place in the job, from 0.
            id: The caller's id that it was submitted with, in place of the position.

        Raises:
            InvalidOption: When neither says which item is meant, or both do, or one is none.
            NotFound: When the job has no such item.
        """

    @abstractmethod
    def vectors(self) -> NDArray[np.float32]:
        """Return all vectors of an ended job, shape (items, width), NaN where an item has none.

        Raises:
            WrongState: When the job has not ended.
            JobFailed: When it could not be done as a whole.
        """

    @abstractmethod
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
        """

    @abstractmethod
    def cancel(self) -> bool:
        """Cancel the job; outcomes that are there stay. Return False when it was cancelled before.

        Raises:
            WrongState: When it has ended otherwise.
        """

    @abstractmethod
    def retry_failed(self) -> int:
        """Try the failed items again, keeping all vectors; return how many items that are.

        Raises:
            WrongState: When the job is not completed.
        """

    @abstractmethod
    def delete(self) -> None:
        """Delete the job, its texts and its results.

        Raises:
            WrongState: When it is still at work.
        """
