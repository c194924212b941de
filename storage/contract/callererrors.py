"""Errors that are the caller's: what was asked for cannot be done as asked. Import them from `errors.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from storage.contract.roots import EmbedmillError


class CallerError(EmbedmillError):
    """Raised when the request itself must change before it can succeed."""

    code = "caller_error"


class InvalidOption(CallerError):
    """Raised when an option, flag or setting has a value that is not allowed."""

    code = "invalid_option"


class InvalidField(InvalidOption):
    """Raised when a field of a request cannot be used.

    Args:
        param: The field's name.
        message: As for all errors.
        remedy: As for all errors.
    """

    def __init__(self, param: str, message: str, remedy: str | None = None) -> None:
        super().__init__(message, remedy)
        self.param = param


@dataclass(frozen=True, slots=True)
class Problem:
    """One invalid item: where it stands in the input and why it was refused."""

    position: int
    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


class InvalidItems(CallerError):
    """Raised when `on_invalid="refuse"` and at least one item is invalid; nothing of the submission was kept."""

    code = "invalid_items"

    def __init__(self, problems: Sequence[Problem], count: int, remedy: str | None = None) -> None:
        listed = "; ".join(str(problem) for problem in problems[:3])
        more = f"; and {count - 3} more" if count > 3 else ""
        super().__init__(
            f"{count} invalid item{'s' if count != 1 else ''}, nothing was accepted: {listed}{more}.",
            remedy or "Mend them, or submit with on_invalid=keep (--on-invalid keep) to accept the rest.",
        )
        self.problems = list(problems)
        self.count = count


class InvalidFile(CallerError):
    """Raised when an input file cannot be read as what it is said to be."""

    code = "invalid_file"


class OutputExists(CallerError):
    """Raised when a result file is there already and overwriting was not asked for."""

    code = "output_exists"


class UnknownModel(CallerError):
    """Raised when a job names a model that no worker has ever registered and that is not the default."""

    code = "unknown_model"


class UnknownJob(CallerError):
    """Raised when no job has the id that was asked for."""

    code = "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no job {job_id}.", "`embedmill jobs`, or GET /v1/jobs, lists those that are kept.")


class WrongState(CallerError):
    """Raised when a job's state does not allow what was asked of it."""

    code = "wrong_state"


class IdempotencyConflict(CallerError):
    """Raised when an idempotency key was used before with another payload."""

    code = "idempotency_conflict"


class NotFound(CallerError):
    """Raised when nothing of the kind asked for has this id, or it is somebody else's: nobody can tell which."""

    code = "not_found"


class Conflict(CallerError):
    """Raised when what is asked for does not fit what was done before."""

    code = "conflict"


class Unreadable(CallerError):
    """Raised when the body of a request is not what it is said to be."""

    code = "unreadable"


class UnsupportedMedia(CallerError):
    """Raised when the body of a request is of a kind that is not read."""

    code = "unsupported_media_type"


class TooSlow(CallerError):
    """Raised when the body of a request comes so slowly that it is waited for no longer."""

    code = "too_slow"


class MissingExtra(CallerError):
    """Raised when a feature needs an optional dependency that is not installed."""

    code = "missing_extra"

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} is not installed.", f"Install it with: pip install 'embedmill[{extra}]'")
