"""Sessions of the page: a signed cookie that holds a key's id and when it ends, and nothing else.

What signs them is another secret each day, and is believed for as long as a session lasts beyond it: whoever has an old
backup signs nothing that anybody believes. Every process finds a day's secret by its name, so that none has to be told.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterator
from hashlib import sha256

from fastapi import Request

from storage.contract.errors import ServerError
from storage.stores import Stores

COOKIE = "embedmill_session"

#: How long a sign-in lasts, in seconds.
LIFE = 12 * 3600

_DAY = 24 * 3600

#: What this process signs with, and it alone believes, while the database keeps no secret.
_UNKEPT = os.urandom(32)


def new_session(stores: Stores, key_id: str) -> str:
    """Return a cookie's value that speaks for a key until its time is over or the key is revoked.

    Args:
        stores: Keep the secret that signs it.
        key_id: The key's id.
    """
    claim = f"{key_id}.{int(stores.database.clock.now()) + LIFE}"
    return f"{claim}.{_signature(_todays(stores), 'session', claim)}"


def session_of(request: Request) -> str | None:
    """Return the session's cookie of a request, if it has one, good or not."""
    return request.cookies.get(COOKIE)


def key_of_session(stores: Stores, value: str) -> str | None:
    """Return the id of the key a session speaks for, or None when it is forged, damaged or over.

    Args:
        stores: Keep the secrets that may have signed it.
        value: The cookie's value.
    """
    claim, _, signature = value.rpartition(".")
    key_id, _, ends = claim.rpartition(".")
    if not _is_signed(stores, signature, "session", claim):
        return None
    return key_id if stores.database.clock.now() < int(ends) else None


def form_token(stores: Stores, session: str) -> str:
    """Return what every form of a session carries, so that no other site can send one.

    Args:
        stores: Keep the secret that signs it.
        session: The session's cookie; empty where no keys are used.
    """
    return _signature(_todays(stores), "form", session)


def is_form_token(stores: Stores, session: str, token: str) -> bool:
    """Whether a form's token was made for a session, today or shortly before.

    Args:
        stores: Keep the secrets that may have signed it.
        session: The session's cookie; empty where no keys are used.
        token: What the form carries; may be anything.
    """
    return _is_signed(stores, token, "form", session)


def _is_signed(stores: Stores, signature: str, purpose: str, claim: str) -> bool:
    signatures = [_signature(secret, purpose, claim) for secret in _believed(stores)]
    return any(hmac.compare_digest(signature.encode(errors="replace"), one.encode()) for one in signatures)


def _todays(stores: Stores) -> bytes:
    """Return what is signed with; while the database takes no new secret that of the day before, or one of our own."""
    now = stores.database.clock.now()
    try:
        return stores.secrets.get(_name(now))
    except ServerError:
        return stores.secrets.find(_name(now - _DAY)) or _unkept(now)


def _believed(stores: Stores) -> Iterator[bytes]:
    """Yield what something may have been signed with that is not over yet."""
    now = stores.database.clock.now()
    todays = stores.secrets.find(_name(now))
    if todays is not None:
        yield todays
    if todays is None or _name(now) != _name(now - LIFE):
        before = stores.secrets.find(_name(now - _DAY))
        if before is not None:
            yield before
    # Also once the database takes secrets again.
    yield from {_unkept(now), _unkept(now - LIFE)}


def _unkept(at: float) -> bytes:
    """Return the secret of a day that is kept nowhere."""
    return hmac.new(_UNKEPT, _name(at).encode(), sha256).digest()


def _name(at: float) -> str:
    return f"sessions.{int(at) // _DAY}"


def _signature(secret: bytes, purpose: str, claim: str) -> str:
    return hmac.new(secret, f"{purpose}\n{claim}".encode(), sha256).hexdigest()
