"""Errors as answers: one form for all routes, OpenAI's own with a remedy beside, and TEI's where TEI's routes are."""

from __future__ import annotations

import logging
import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from producer.api import teierrors
from producer.api.invalid import place, sentence
from producer.api.metrics import is_probe, note_unserved, route_of
from storage.contract.errors import (
    CallerError,
    CallerGone,
    Conflict,
    EmbedmillError,
    Forbidden,
    ForeignRequest,
    IdempotencyConflict,
    InvalidField,
    InvalidItems,
    JobFailed,
    LimitError,
    ModelError,
    ModelUnavailable,
    NotFound,
    Overloaded,
    QuotaExceeded,
    ServerError,
    StorageFull,
    TooLarge,
    TooSlow,
    Unauthorized,
    UnknownJob,
    UnknownModel,
    UnsupportedMedia,
    WaitTimeout,
    WrongState,
)

logger = logging.getLogger(__name__)

#: The status of an error: that of the first class here which it is of.
_STATUS: tuple[tuple[type[EmbedmillError], int], ...] = (
    (Unauthorized, 401),
    (Forbidden, 403),
    (ForeignRequest, 403),
    (UnknownJob, 404),
    (UnknownModel, 404),
    (NotFound, 404),
    (WrongState, 409),
    (Conflict, 409),
    (JobFailed, 409),
    (TooSlow, 408),
    (TooLarge, 413),
    (UnsupportedMedia, 415),
    # As draft-ietf-httpapi-idempotency-key-header has it for a key that was used with another payload.
    (IdempotencyConflict, 422),
    (QuotaExceeded, 429),
    (Overloaded, 429),
    (CallerError, 400),
    (CallerGone, 499),
    (WaitTimeout, 504),
    (StorageFull, 507),
    (ModelError, 503),
    (ServerError, 503),
)

#: Seconds after which a request may be sent again that failed because something was away.
_RETRY_SERVER = 5

#: Paths on which errors are told in TEI's form.
TEI_PATHS = frozenset(
    {"/embed", "/embed_all", "/embed_sparse", "/rerank", "/predict", "/similarity"}
    | {"/tokenize", "/decode", "/info", "/health", "/ping", "/invocations"}
)


def status_of(error: EmbedmillError) -> int:
    """Return the HTTP status that an error is answered with."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def body_of(error: EmbedmillError, param: str | None = None) -> dict[str, Any]:
    """Return an error in OpenAI's form, with `remedy`, and with `problems` where items are invalid.

    Args:
        error: What went wrong.
        param: The parameter that is to blame, or None.
    """
    told: dict[str, Any] = {
        "message": str(error),
        "type": _type(status_of(error)),
        "param": param,
        "code": error.code,
        "remedy": error.remedy,
    }
    if isinstance(error, InvalidItems):
        told["problems"] = [
            {"position": problem.position, "where": problem.where, "reason": problem.reason}
            for problem in error.problems
        ]
        told["problem_count"] = error.count
    return {"error": told}


def answer(error: EmbedmillError, *, path: str = "", param: str | None = None) -> Response:
    """Return the answer to a request that failed.

    Args:
        error: Why.
        path: The request's path, which says whose form the answer has.
        param: The parameter that is to blame, or None.
    """
    status, body = status_of(error), body_of(error, param)
    if path in TEI_PATHS:
        status, body = teierrors.told(error, status)
    return JSONResponse(body, status, headers=_headers(error, status))


def install(app: FastAPI) -> None:
    """Let an app answer every error in one of our forms; no answer repeats what was sent."""
    app.add_exception_handler(EmbedmillError, _answer_ours)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_unforeseen)


def unforeseen(error: Exception, path: str) -> Response:
    """Return the answer to a request that failed for a reason nobody thought of, and log where that was.

    Args:
        error: It may hold a text: only its kind and where it came from are told.
        path: The request's path, which says whose form the answer has.
    """
    logger.error("a request failed: %s at %s", type(error).__name__, _where(error))
    return answer(EmbedmillError("Something went wrong inside.", "The service's log says where."), path=path)


def _type(status: int) -> str:
    names = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    return names.get(status, "invalid_request_error" if status < 500 else "server_error")


def _headers(error: EmbedmillError, status: int) -> dict[str, str]:
    headers = {}
    if isinstance(error, LimitError | ModelUnavailable) and error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    elif isinstance(error, ServerError) or status == 503 or (status == 429 and not isinstance(error, LimitError)):
        headers["Retry-After"] = str(_RETRY_SERVER)
    elif status in (409, 429, 504):
        # OpenAI's own clients would send it again at once, twice, in vain.
        headers["X-Should-Retry"] = "false"
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    return headers


async def _answer_ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, EmbedmillError)
    if status_of(error) >= 500 and not is_probe(request.scope):
        logger.warning("%s %s: %s", request.method, route_of(request.scope), error.code)
    param = error.param if isinstance(error, InvalidField) else None
    told = answer(error, path=_path(request), param=param)
    # TEI's routes answer so for a model that nobody has ever served, too: they know one alone.
    if told.status_code == 503 and isinstance(error, ModelUnavailable | UnknownModel):
        note_unserved(request.scope)
    return told


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    remedy = "GET /openapi.json lists the fields." if first["type"] == "extra_forbidden" else None
    # Pydantic's `input`, which is what was sent, is left out.
    return answer(_InvalidRequest(sentence(first), remedy), path=_path(request), param=place(first["loc"]))


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = {404: NotFound(f"Nothing answers {request.method} at this path.", "GET /openapi.json lists all.")}
    fallback = _InvalidRequest(str(error.detail))
    ours = told.get(error.status_code, fallback)
    in_theirs = _path(request) in TEI_PATHS
    body = teierrors.told_of_http(ours, error.status_code) if in_theirs else body_of(ours)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_allowed(request))
    return JSONResponse(body, error.status_code, headers=headers)


async def _answer_unforeseen(request: Request, error: Exception) -> Response:
    return unforeseen(error, _path(request))


def _allowed(request: Request) -> list[str]:
    """Return the methods of a path; the framework would name those of one of its routes alone."""
    routes = request.app.router.routes
    return [
        method
        # Whatever has a GET has a HEAD; see `heads.py`.
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
        if any(_takes(route, request.scope, "GET" if method == "HEAD" else method) for route in routes)
    ]


def _takes(route: BaseRoute, scope: Scope, method: str) -> bool:
    return route.matches({**scope, "method": method})[0] is Match.FULL


def _path(request: Request) -> str:
    return form_path(request.method, request.url.path)


def form_path(method: str, path: str) -> str:
    """Return the path that says whose form an error has: what is sent to the root is TEI's, the page is read there."""
    return "/invocations" if path == "/" and method == "POST" else path.rstrip("/") or path


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "nowhere" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


class _InvalidRequest(CallerError):
    """Answered when a request does not have the form that its route asks for."""

    code = "invalid_request"
