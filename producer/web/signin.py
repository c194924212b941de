"""Signing in with an API key, and out again."""

from __future__ import annotations

import asyncio
import re

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from producer.api.auth import authenticate
from producer.api.service import Service, ServiceDep
from producer.api.sessions import COOKIE, LIFE, new_session
from producer.web.formreading import form_of
from producer.web.rendering import page
from producer.web.routes import PageRoute
from producer.web.visitors import VisitorDep, check_form, check_origin
from storage.contract.errors import Unauthorized

router = APIRouter(include_in_schema=False, route_class=PageRoute)

#: How long a wrong key takes to be refused, in seconds.
_SLOWED = 0.5

#: A page of ours: no host, nor anything that a browser takes for one.
_OURS = re.compile(r"/([A-Za-z0-9?][!-\[\]-~]*)?")


@router.get("/signin")
def show(request: Request, service: ServiceDep) -> Response:
    """Show where the key is pasted."""
    if service.settings.auth == "none":
        return RedirectResponse("/", 303)
    return page(request, "signin", wrong=None, next=_next(request.query_params.get("next")))


@router.post("/signin")
async def sign_in(request: Request, service: ServiceDep) -> Response:
    """Begin a session for a good key; a wrong one is told, after a moment."""
    check_origin(request)
    async with form_of(request, service) as form:
        key, then = form.get("key").strip(), _next(form.get("next"))
    if service.settings.auth == "none":
        return RedirectResponse("/", 303)
    try:
        caller = await run_in_threadpool(authenticate, service, key)
    except Unauthorized:
        await asyncio.sleep(_SLOWED)
        wrong = "This key is not known here, or it was revoked or has expired."
        return page(request, "signin", code=401, wrong=wrong, next=then)
    return await run_in_threadpool(_begin, request, service, caller.key_id, then)


@router.post("/signout")
async def sign_out(request: Request, service: ServiceDep, visitor: VisitorDep) -> Response:
    """End the session in this browser."""
    async with form_of(request, service) as form:
        await run_in_threadpool(check_form, request, service, form)
    answer = RedirectResponse("/signin", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=_is_secure(request))
    return answer


def _begin(request: Request, service: Service, key_id: str, then: str) -> Response:
    answer = RedirectResponse(then, 303)
    answer.set_cookie(
        COOKIE,
        new_session(service.stores, key_id),
        max_age=LIFE,
        httponly=True,
        samesite="strict",
        secure=_is_secure(request),
    )
    return answer


def _is_secure(request: Request) -> bool:
    """Whether the browser speaks TLS, to us or to what stands before us: who lies about that binds but himself."""
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", "").partition(",")[0].strip())


def _next(given: str | None) -> str:
    """Return where to go after signing in: a page of ours, or the list."""
    return given if given is not None and _OURS.fullmatch(given) else "/"
