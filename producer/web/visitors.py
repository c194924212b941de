"""Who looks at the page: by session where keys are used, and safe from forms that other sites send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from producer.api.auth import OPERATOR, Caller, caller_of_session
from producer.api.service import Service, ServiceDep
from producer.api.sessions import form_token, is_form_token, session_of
from producer.web.formreading import PageForm
from storage.contract.errors import Forbidden, Unauthorized


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whoever looks at the page.

    Args:
        caller: Which key he acts with.
        token: What his forms must carry.
        signed_in: Whether he came with a session, and so can sign out.
    """

    caller: Caller
    token: str
    signed_in: bool

    def may(self, scope: str) -> bool:
        """Whether he may do what needs a scope."""
        return self.caller.is_admin or scope in self.caller.scopes


def visitor_of(request: Request, service: ServiceDep) -> Visitor:
    """Return who looks at a page; whoever sends a form must pass `check_form`, too.

    Raises:
        Unauthorized: When keys are needed and he has not signed in.
    """
    session = _session(request, service)
    if service.settings.auth == "none":
        return Visitor(OPERATOR, form_token(service.stores, session), False)
    if not session:
        raise Unauthorized("Nobody has signed in.", "Sign in with an API key.")
    return Visitor(caller_of_session(service, session), form_token(service.stores, session), True)


#: A route's parameter of this type is whoever looks at the page.
VisitorDep = Annotated[Visitor, Depends(visitor_of)]


def check_origin(request: Request) -> None:
    """Check that a form was sent by a page of ours.

    Raises:
        Forbidden: When another site sent it.
    """
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site")
    if site is None:
        # An older browser: a proxy that does not hand on the name it was called by makes every form look foreign then.
        is_ours = origin is None or origin.partition("://")[2] == request.headers.get("host")
    else:
        # The browser's own word, which no page can forge.
        is_ours = site in ("same-origin", "none")
    if not is_ours:
        raise Forbidden("This form was sent by another site.", "Open the page itself and send the form there.")


def check_form(request: Request, service: Service, form: PageForm) -> None:
    """Check that a form was made for the session that sends it, by a page of ours.

    Args:
        request: What sends it.
        service: Signed its token.
        form: Its fields.

    Raises:
        Forbidden: When it was not.
    """
    check_origin(request)
    if not is_form_token(service.stores, _session(request, service), form.get("token")):
        raise Forbidden("This form is too old.", "Load the page again and send the form once more.")


def _session(request: Request, service: Service) -> str:
    """Return the session's cookie; empty where no keys are used, or where there is none."""
    return "" if service.settings.auth == "none" else session_of(request) or ""
