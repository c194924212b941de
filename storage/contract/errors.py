"""Every error Embedmill raises on purpose, and whose fault each is.

EmbedmillError
├── CallerError              what was asked for cannot be done as asked
│   ├── InvalidOption        invalid_option
│   │   └── InvalidField     invalid_option; names the field
│   ├── InvalidItems         invalid_items
│   ├── InvalidFile          invalid_file
│   ├── OutputExists         output_exists
│   ├── UnknownModel         unknown_model
│   ├── UnknownJob           job_not_found
│   ├── WrongState           wrong_state
│   ├── IdempotencyConflict  idempotency_conflict
│   ├── NotFound             not_found
│   ├── Conflict             conflict
│   ├── Unreadable           unreadable
│   ├── UnsupportedMedia     unsupported_media_type
│   ├── TooSlow              too_slow
│   └── MissingExtra         missing_extra
├── AccessError              the caller may not do this
│   ├── Unauthorized         invalid_api_key
│   ├── Forbidden            insufficient_scope
│   └── ForeignRequest       foreign_request
├── LimitError               more than is allowed, or more than fits now
│   ├── TooLarge             too_large
│   ├── QuotaExceeded        quota_exceeded; may be tried again after `retry_after` seconds
│   └── Overloaded           overloaded; the same
├── ModelError               the checkpoint cannot be served
│   ├── ModelRefused         model_refused
│   └── ModelBroken          model_broken
├── ServerError              something Embedmill stands on is missing or sick
│   ├── StorageUnavailable   storage_unavailable
│   ├── StorageFull          storage_full
│   ├── SchemaMismatch       schema_mismatch
│   ├── TokenizerMissing     tokenizer_missing
│   ├── QueueUnavailable     queue_unavailable
│   ├── ServiceUnavailable   service_unavailable
│   ├── AddressInUse         address_in_use
│   ├── AlreadyRunning       already_running
│   └── ModelUnavailable     model_unavailable
├── JobFailed                job_failed
├── WaitTimeout              wait_timeout; the job goes on
└── CallerGone               caller_gone; nobody reads the answer
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class EmbedmillError(Exception):
    """Root of every error raised on purpose.

    Args:
        message: One sentence that says what is wrong; never contains a text, a vector or a key.
        remedy: One sentence that says what to do about it, or None.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}" if self.remedy else self.message


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


class AccessError(EmbedmillError):
    """Raised when a caller may not do what he asks for."""

    code = "access_denied"


class Unauthorized(AccessError):
    """Raised when a request has no API key, or one that is unknown, revoked or expired: nobody can tell which."""

    code = "invalid_api_key"


class Forbidden(AccessError):
    """Raised when an API key lacks the scope that a request needs."""

    code = "insufficient_scope"


class ForeignRequest(AccessError):
    """Raised when a request comes from another site's page, or under a name that is not the service's."""

    code = "foreign_request"


class LimitError(EmbedmillError):
    """Raised when something is larger than allowed, or more than fits now.

    Args:
        message: As for all errors.
        remedy: As for all errors.
        retry_after: Seconds after which the same request may succeed; None: never.
    """

    code = "limit"

    def __init__(self, message: str, remedy: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, remedy)
        self.retry_after = retry_after


class TooLarge(LimitError):
    """Raised when a body, a text, a part or a number of items is over a limit that is told."""

    code = "too_large"


class QuotaExceeded(LimitError):
    """Raised when an API key has used up what it may."""

    code = "quota_exceeded"


class Overloaded(LimitError):
    """Raised when there is no room for another request just now."""

    code = "overloaded"


class MissingExtra(CallerError):
    """Raised when a feature needs an optional dependency that is not installed."""

    code = "missing_extra"

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} is not installed.", f"Install it with: pip install 'embedmill[{extra}]'")


class ModelError(EmbedmillError):
    """Raised when a checkpoint cannot be served; never charged to a text."""

    code = "model_error"


class ModelRefused(ModelError):
    """Raised when a checkpoint is of a kind that is not served: remote code, pickles, an unknown architecture."""

    code = "model_refused"


class ModelBroken(ModelError):
    """Raised when a checkpoint is incomplete or damaged."""

    code = "model_broken"


class ServerError(EmbedmillError):
    """Raised when something Embedmill stands on is unreachable, full or of the wrong version."""

    code = "server_error"


class StorageUnavailable(ServerError):
    """Raised when the database cannot be reached or does not answer in time."""

    code = "storage_unavailable"
    #: Whether a transaction may have begun; where none had, nothing can have been written.
    begun = True


class StorageFull(ServerError):
    """Raised when the disk under the database or an output file has no room left."""

    code = "storage_full"


class SchemaMismatch(ServerError):
    """Raised when the database's schema is older or newer than this program knows."""

    code = "schema_mismatch"


class TokenizerMissing(ServerError):
    """Raised when a text is to be tokenized for a model whose tokenizer no worker has registered yet."""

    code = "tokenizer_missing"


class QueueUnavailable(ServerError):
    """Raised when Redis cannot be reached and the command cannot do without it."""

    code = "queue_unavailable"


class ServiceUnavailable(ServerError):
    """Raised when the HTTP service cannot be reached, or what stands before it does not reach it."""

    code = "service_unavailable"


class AddressInUse(ServerError):
    """Raised when a port to listen on is taken by another program."""

    code = "address_in_use"


class AlreadyRunning(ServerError):
    """Raised when another process already works on this data folder."""

    code = "already_running"


class JobFailed(EmbedmillError):
    """Raised when vectors are asked of a job that could not be done as a whole."""

    code = "job_failed"


class ModelUnavailable(ServerError):
    """Raised when somebody waits for a model that no worker serves just now."""

    code = "model_unavailable"


class WaitTimeout(EmbedmillError):
    """Raised when a wait's time is over before the job's end; the job itself goes on."""

    code = "wait_timeout"


class CallerGone(EmbedmillError):
    """Raised when whoever asked went away before the answer was there."""

    code = "caller_gone"
