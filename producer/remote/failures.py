"""Answers that tell of a failure as the exceptions that the same failure raises over storage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from storage.contract import errors
from storage.contract.errors import (
    Conflict,
    EmbedmillError,
    Forbidden,
    InvalidItems,
    InvalidOption,
    LimitError,
    ModelUnavailable,
    NotFound,
    Overloaded,
    Problem,
    ServerError,
    ServiceUnavailable,
    TooLarge,
    Unauthorized,
)


def _kinds(kind: type[EmbedmillError]) -> Iterator[type[EmbedmillError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from _kinds(narrower)


#: Every error that both sides know, by its code; of two with one code the wider, which comes first.
_BY_CODE: dict[str, type[EmbedmillError]] = {}
for _kind in _kinds(EmbedmillError):
    if vars(errors).get(_kind.__name__) is _kind:
        _BY_CODE.setdefault(_kind.code, _kind)

#: What an answer means whose code nobody knows, by its status.
_BY_STATUS: dict[int, type[EmbedmillError]] = {
    400: InvalidOption,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    415: InvalidOption,
    422: InvalidOption,
    429: Overloaded,
    502: ServiceUnavailable,
    503: ServiceUnavailable,
    504: ServiceUnavailable,
}


def failure_of(response: httpx.Response) -> EmbedmillError:
    """Return the exception that an answer stands for.

    Args:
        response: An answer that is no success, its body read.
    """
    told = _told(response)
    if told is None:
        return _foreign(response)
    kind = _BY_CODE.get(str(told.get("code"))) or _by_status(response.status_code)
    remedy = told.get("remedy")
    message = str(told.get("message"))
    error = kind.__new__(kind)
    # Not the class's own way, which would make up the sentence anew.
    EmbedmillError.__init__(error, message.removesuffix(f" {remedy}") if remedy else message, remedy)
    if isinstance(error, LimitError | ModelUnavailable):
        error.retry_after = retry_after(response)
    if isinstance(error, InvalidItems):
        error.problems = [Problem(p["position"], p["where"], p["reason"]) for p in told.get("problems", [])]
        error.count = int(told.get("problem_count", len(error.problems)))
    return error


def object_of(response: httpx.Response, needed: Mapping[str, type]) -> dict[str, Any]:
    """Return the JSON object that a successful answer holds.

    Args:
        response: Its body read.
        needed: Names that every such object of a service has, with their types; a list is one of objects.

    Raises:
        ServiceUnavailable: When it is another's answer, such as the page of a proxy that wants somebody to sign in.
    """
    try:
        found = response.json()
    except (ValueError, RecursionError):
        raise _foreign(response) from None
    if not isinstance(found, dict) or not all(_is_there(found, name, kind) for name, kind in needed.items()):
        raise _foreign(response)
    return found


def _is_there(found: dict[str, Any], name: str, kind: type) -> bool:
    value = found.get(name)
    if not isinstance(value, kind) or name not in found:
        return False
    return not isinstance(value, list) or all(isinstance(one, dict) for one in value)


def retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that an answer asks to wait before the next try, or None; a date counts as none."""
    try:
        return max(0.0, float(response.headers.get("retry-after", "")))
    except ValueError:
        return None


def _told(response: httpx.Response) -> dict[str, Any] | None:
    try:
        told = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        return None
    return told if isinstance(told, dict) and "message" in told else None


def _by_status(status: int) -> type[EmbedmillError]:
    if status < 300:  # it would have been done, and was not by a service of ours
        return ServiceUnavailable
    return _BY_STATUS.get(status, ServerError if status >= 500 else InvalidOption)


def _foreign(response: httpx.Response) -> EmbedmillError:
    """Return the exception for an answer that has not our form: something else, or something between, gave it."""
    kind = _by_status(response.status_code)
    error = kind.__new__(kind)
    place = f"{response.url.scheme}://{response.url.netloc.decode()}"
    message = f"{place} answered {response.status_code} and not in the words of an Embedmill service."
    EmbedmillError.__init__(error, message, "Look whether the address is right, and what stands between.")
    if isinstance(error, LimitError):
        error.retry_after = retry_after(response)
    return error
