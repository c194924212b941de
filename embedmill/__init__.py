"""The front door: `from embedmill import Client`, all that it takes, gives and raises, and the `embedmill` command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from producer.anyclient import AnyClient as Client
    from producer.anyjob import AnyJob as Job
    from producer.readers import read
    from storage.contract.errors import (
        AccessError,
        AddressInUse,
        AlreadyRunning,
        CallerError,
        CallerGone,
        Conflict,
        EmbedmillError,
        Forbidden,
        ForeignRequest,
        IdempotencyConflict,
        InvalidField,
        InvalidFile,
        InvalidItems,
        InvalidOption,
        JobFailed,
        LimitError,
        MissingExtra,
        ModelBroken,
        ModelError,
        ModelRefused,
        ModelUnavailable,
        NotFound,
        OutputExists,
        Overloaded,
        Problem,
        QueueUnavailable,
        QuotaExceeded,
        SchemaMismatch,
        ServerError,
        ServiceUnavailable,
        StorageFull,
        StorageUnavailable,
        TokenizerMissing,
        TooLarge,
        TooSlow,
        Unauthorized,
        UnknownJob,
        UnknownModel,
        Unreadable,
        UnsupportedMedia,
        WaitTimeout,
        WrongState,
    )
    from storage.contract.options import JobOptions
    from storage.jobstatus import JobStatus
    from storage.outcomes import Outcome

__all__ = [
    "AccessError",
    "AddressInUse",
    "AlreadyRunning",
    "CallerError",
    "CallerGone",
    "Client",
    "Conflict",
    "EmbedmillError",
    "Forbidden",
    "ForeignRequest",
    "IdempotencyConflict",
    "InvalidField",
    "InvalidFile",
    "InvalidItems",
    "InvalidOption",
    "Job",
    "JobFailed",
    "JobOptions",
    "JobStatus",
    "LimitError",
    "MissingExtra",
    "ModelBroken",
    "ModelError",
    "ModelRefused",
    "ModelUnavailable",
    "NotFound",
    "Outcome",
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
    "read",
]

#: Where those are that are no errors, and what they are called there.
_PLACES = {
    "Client": ("producer.anyclient", "AnyClient"),
    "Job": ("producer.anyjob", "AnyJob"),
    "JobOptions": ("storage.contract.options", "JobOptions"),
    "JobStatus": ("storage.jobstatus", "JobStatus"),
    "Outcome": ("storage.outcomes", "Outcome"),
    "read": ("producer.readers", "read"),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for only then, so that `embedmill --help` answers at once."""
    if name not in __all__:
        raise AttributeError(f"module 'embedmill' has no attribute {name!r}")
    from importlib import import_module

    module, there = _PLACES.get(name, ("storage.contract.errors", name))
    return getattr(import_module(module), there)


def __dir__() -> list[str]:
    """Return the names that there are, those too that nobody has asked for yet."""
    return sorted({*globals(), *__all__})
