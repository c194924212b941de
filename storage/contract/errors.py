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

from storage.contract.callererrors import (
    CallerError,
    Conflict,
    IdempotencyConflict,
    InvalidField,
    InvalidFile,
    InvalidItems,
    InvalidOption,
    MissingExtra,
    NotFound,
    OutputExists,
    Problem,
    TooSlow,
    UnknownJob,
    UnknownModel,
    Unreadable,
    UnsupportedMedia,
    WrongState,
)
from storage.contract.roots import EmbedmillError

__all__ = [
    "AccessError",
    "AddressInUse",
    "AlreadyRunning",
    "CallerError",
    "CallerGone",
    "Conflict",
    "EmbedmillError",
    "Forbidden",
    "ForeignRequest",
    "IdempotencyConflict",
    "InvalidField",
    "InvalidFile",
    "InvalidItems",
    "InvalidOption",
    "JobFailed",
    "LimitError",
    "MissingExtra",
    "ModelBroken",
    "ModelError",
    "ModelRefused",
    "ModelUnavailable",
    "NotFound",
    "OutputExists",
    "Overloaded",
    "Problem",
    "QueueUnavailable",
    "QuotaExceeded",
    "SchemaMismatch",
    "ServerError",
    "ServiceUnavailable",
    "StorageFull",
    "StorageUnavailable",
    "TokenizerMissing",
    "TooLarge",
    "TooSlow",
    "Unauthorized",
    "UnknownJob",
    "UnknownModel",
    "Unreadable",
    "UnsupportedMedia",
    "WaitTimeout",
    "WrongState",
]


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
    """Raised when somebody waits for a model that no worker serves just now.

    Args:
        message: As for all errors.
        remedy: As for all errors.
        retry_after: Seconds after which a worker may be there; None: nobody can tell.
    """

    code = "model_unavailable"
    retry_after: float | None = None

    def __init__(self, message: str, remedy: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, remedy)
        self.retry_after = retry_after


class WaitTimeout(EmbedmillError):
    """Raised when a wait's time is over before the job's end; the job itself goes on."""

    code = "wait_timeout"


class CallerGone(EmbedmillError):
    """Raised when whoever asked went away before the answer was there."""

    code = "caller_gone"
