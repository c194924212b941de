"""Errors in the form of text-embeddings-inference: `{"error", "error_type"}`, with its statuses."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from storage.contract.errors import (
    AccessError,
    CallerError,
    Conflict,
    EmbedmillError,
    InvalidItems,
    LimitError,
    ModelError,
    ServerError,
    StorageFull,
    TooLarge,
    Unauthorized,
    UnknownModel,
    UnsupportedMedia,
    WaitTimeout,
)

ErrorType = Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]


class NoInputs(CallerError):
    """Raised when there is nothing to embed, or to tokenize."""

    code = "no_inputs"


#: Status and type of an error: those of the first class here which it is of.
_TOLD: tuple[tuple[type[EmbedmillError], int, ErrorType], ...] = (
    (NoInputs, 400, "Empty"),
    (Unauthorized, 401, "Validation"),
    (AccessError, 403, "Validation"),
    (UnsupportedMedia, 415, "Validation"),
    (TooLarge, 413, "Validation"),
    (InvalidItems, 413, "Validation"),
    (LimitError, 429, "Overloaded"),
    (WaitTimeout, 429, "Overloaded"),
    # The only model that can be asked for here is the service's own.
    (UnknownModel, 503, "Unhealthy"),
    (Conflict, 424, "Backend"),
    (CallerError, 422, "Validation"),
    (ModelError, 424, "Backend"),
    (StorageFull, 507, "Unhealthy"),
    (ServerError, 503, "Unhealthy"),
)

_WHEN = {
    400: "The body is not in UTF-8, or `inputs` is empty, or one of them is.",
    401: "An API key is needed, and none that is good was given.",
    403: "The API key lacks the scope.",
    408: "The body stopped coming, or comes too slowly.",
    413: "There are more inputs than allowed, or one is longer than it may be.",
    415: "The body is of a media type that is not read here, or compressed.",
    422: "The request does not have the form asked for, or an option does not fit the model.",
    424: "It cannot be computed.",
    429: "There is no room for the request now.",
    503: "No worker serves the model now, or the database is away.",
    507: "The database's disk is full.",
}


class TeiError(BaseModel):
    """The answer to a request that failed."""

    error: str = Field(description="What is wrong, and what to do.")
    error_type: ErrorType


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route of theirs that may fail so; 401, 403, 429 and 503 are always among them.

    Args:
        *statuses: The others.
    """
    return {
        status: {"model": TeiError, "description": _WHEN[status]} for status in sorted({401, 403, 429, 503, *statuses})
    }


def told(error: EmbedmillError, status: int) -> tuple[int, dict[str, Any]]:
    """Return status and body of an error.

    Args:
        error: What went wrong.
        status: Its status in our own form, for what has none in theirs.
    """
    for kind, theirs, error_type in _TOLD:
        if isinstance(error, kind):
            return theirs, {"error": str(error), "error_type": error_type}
    return status, told_of_http(error, status)


def told_of_http(error: EmbedmillError, status: int) -> dict[str, Any]:
    """Return the body of an error whose status is settled, such as a method that is not allowed."""
    names = {413: "Validation", 429: "Overloaded", 503: "Unhealthy"}
    return {"error": str(error), "error_type": names.get(status, "Validation" if status < 500 else "Backend")}
