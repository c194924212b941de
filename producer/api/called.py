"""What came of a call: read out of its job once that has ended, or why there is nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from producer.job import Job
from storage.contract.errors import Conflict, InvalidItems, InvalidOption, Problem, WaitTimeout
from storage.contract.states import JobState
from storage.outcomes import Page

#: Invalid inputs that are reported one by one.
_REPORTED = 100

#: What is to be done about them.
MEND_INPUTS = "Mend or leave out these inputs; nothing was embedded."


@dataclass(frozen=True, slots=True)
class Called:
    """The vectors of a call.

    Args:
        matrix: float32, shape (texts, width).
        tokens: int32, shape (texts,): tokens the encoder read.
        truncated: How many texts were cut.
    """

    matrix: NDArray[np.float32]
    tokens: NDArray[np.int32]
    truncated: int


@dataclass(frozen=True, slots=True)
class CalledStates:
    """The states of tokens of a call.

    Args:
        states: float32, for each text of shape (tokens, width).
        truncated: How many texts were cut.
    """

    states: list[NDArray[np.floating]]
    truncated: int


def vectors_of(job: Job, size: int) -> Called:
    """Return the vectors of a call.

    Args:
        job: Its job, which has ended.
        size: Number of texts.

    Raises:
        InvalidItems: When texts could not be embedded.
        InvalidOption: When the model cannot do what was asked.
        WaitTimeout: When the job's time was over before it was done.
        Conflict: When somebody cancelled it.
    """
    pages = _pages(job)
    parts = [matrix for page in pages if (matrix := page.matrix()) is not None]
    if sum(map(len, parts)) < size or any(np.isnan(part[:, 0]).any() for part in parts):
        raise _without_outcome(job)
    matrix = np.concatenate(parts).astype(np.float32, copy=False)
    return Called(matrix, np.concatenate([page.tokens for page in pages]), _truncated(pages))


def states_of(job: Job, size: int) -> CalledStates:
    """Return the states of tokens of a call; see `vectors_of`.

    Args:
        job: Its job, which has ended.
        size: Number of texts.
    """
    pages = _pages(job)
    states = [text for page in pages if page.vectors is not None for text in page.states()]
    if len(states) < size or not all(map(len, states)):
        raise _without_outcome(job)
    return CalledStates(states, _truncated(pages))


def _pages(job: Job) -> list[Page]:
    pages, problems = [], []
    for page in job.pages():
        pages.append(page)
        for place, error in sorted(page.errors.items()):
            position = page.first + place
            problems.append(Problem(position, f"input {position}", error.message))
    if problems:
        raise InvalidItems(problems[:_REPORTED], len(problems), MEND_INPUTS)
    return pages


def _truncated(pages: list[Page]) -> int:
    return sum(int(page.truncated.sum()) for page in pages)


def _without_outcome(job: Job) -> Exception:
    """Return what a job without vectors died of, where it can be told."""
    status = job.status()
    if status.state == JobState.FAILED:
        return InvalidOption((status.error or {}).get("message", "The call failed."))
    if status.state == JobState.EXPIRED:
        return WaitTimeout("The vectors were not there in time.", "Send fewer texts, or submit a job.")
    return Conflict("The call was cancelled.", "Send it again.")
