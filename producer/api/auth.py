"""Who asks: the key behind a request, and what it may do and see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool

from producer.api.knownkeys import KnownKeys
from producer.api.settings import ApiSettings
from producer.job import Job
from storage.contract.errors import Forbidden, UnknownJob
from storage.keys import SCOPES, KeyRecord

#: Headers that carry a key and nothing else, for programs that cannot send a bearer.
_KEY_HEADERS = ("x-api-key", "api-key")


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


async def caller_of(request: Request) -> Caller:
    """Return who asks.

    Raises:
        Unauthorized: When keys are needed and the request has none that is good.
    """
    service: Doorkeeper = request.app.state.service
    if service.settings.auth == "none":
        return OPERATOR
    key = key_of(request)
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
