"""Who asks: the key behind a request, and what it may do and see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool

from producer.api.knownkeys import KnownKeys
from producer.api.sessions import key_of_session, session_of
from producer.api.settings import ApiSettings
from producer.job import Job
from storage.contract.errors import Forbidden, NotFound, Unauthorized, UnknownJob
from storage.keys import SCOPES, KeyRecord
from storage.stores import Stores

#: Headers that carry a key and nothing else, for programs that cannot send a bearer.
_KEY_HEADERS = ("x-api-key", "api-key")

#: Methods for which the page's session is enough: they change nothing, so that no other site gains by sending them.
_READING = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever asks.

    Args:
        key_id: The id of the API key; empty where no keys are used.
        scopes: What it may do.
        name: What a person calls the key.
    """

    key_id: str
    scopes: frozenset[str]
    name: str = ""

    @property
    def is_admin(self) -> bool:
        """Whether it sees what belongs to others."""
        return "admin" in self.scopes

    @property
    def sees(self) -> str | None:
        """The owner whose jobs and files it sees, as the stores' `key_id` filters take it; None: those of all."""
        return None if self.is_admin else self.key_id

    def may_see(self, key_id: str) -> bool:
        """Whether it sees what belongs to a key."""
        return self.is_admin or key_id == self.key_id

    def require(self, scope: str) -> None:
        """Refuse a caller that lacks a scope.

        Raises:
            Forbidden: When it does.
        """
        if scope not in self.scopes and not self.is_admin:
            raise Forbidden(f"This API key lacks the scope {scope}.", "Ask for a key that has it.")


#: Whoever asks where no keys are used: the operator.
OPERATOR = Caller("", frozenset(SCOPES), "operator")

#: Shows in the OpenAPI document that a bearer token may be needed; what it is worth is found out by `caller_of`.
_BEARER = HTTPBearer(auto_error=False, description="An API key, as `embedmill keys create` printed it.")


class Doorkeeper(Protocol):
    """What is needed of the service to know who asks."""

    @property
    def settings(self) -> ApiSettings:
        """Say whether keys are used."""

    @property
    def keys(self) -> KnownKeys:
        """Tells good keys from bad ones."""

    @property
    def stores(self) -> Stores:
        """Every store."""


async def caller_of(request: Request) -> Caller:
    """Return who asks: by the key that is sent, or for reading by the page's session, as downloads from it are.

    Raises:
        Unauthorized: When keys are needed and the request has none that is good.
    """
    service: Doorkeeper = request.app.state.service
    if service.settings.auth == "none":
        return OPERATOR
    key = key_of(request)
    if not key and request.method in _READING and (session := session_of(request)) is not None:
        return await run_in_threadpool(caller_of_session, service, session)
    known = service.keys.recall(key)
    return _caller(known) if known is not None else await run_in_threadpool(authenticate, service, key)


def authenticate(service: Doorkeeper, key: str) -> Caller:
    """Return whom a key belongs to; where no keys are used, the operator.

    Args:
        service: Knows the keys.
        key: What somebody sent; may be anything.

    Raises:
        Unauthorized: When it is malformed, unknown, revoked or expired: nobody can tell which.
    """
    return OPERATOR if service.settings.auth == "none" else _caller(service.keys.find(key))


def caller_of_session(service: Doorkeeper, session: str) -> Caller:
    """Return whom a session of the page speaks for; its key is looked up each time, so that a revoked one is out.

    Args:
        service: Knows the keys.
        session: The cookie's value; may be anything.

    Raises:
        Unauthorized: When it is forged or over, or its key may not be used any more.
    """
    key_id = key_of_session(service.stores, session)
    try:
        record = None if key_id is None else service.stores.keys.get(key_id)
    except NotFound:
        record = None
    if record is None or not record.is_good:
        raise Unauthorized("This session is over.", "Sign in again with an API key.")
    return _caller(record)


def key_of(request: Request) -> str:
    """Return the key that a request carries; empty where it has none."""
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return bearer.strip()
    return next((request.headers[name].strip() for name in _KEY_HEADERS if name in request.headers), "")


def _caller(record: KeyRecord) -> Caller:
    return Caller(record.id, record.scopes, record.name)


def _needs(scope: str) -> object:
    async def checked(
        caller: Annotated[Caller, Depends(caller_of)], token: Annotated[object, Depends(_BEARER)]
    ) -> Caller:
        caller.require(scope)
        return caller

    return Depends(checked)


# A route's parameter of one of these types is the caller, who has that scope.
Reader = Annotated[Caller, _needs("read")]
Writer = Annotated[Caller, _needs("write")]
Embedder = Annotated[Caller, _needs("embed")]
Admin = Annotated[Caller, _needs("admin")]


def owned(job: Job, caller: Caller) -> Job:
    """Return a job that the caller may see.

    Raises:
        UnknownJob: When it is another's, in the same words as for an id that nobody has.
    """
    if not caller.may_see(job.record().key_id):
        raise UnknownJob(job.id)
    return job
