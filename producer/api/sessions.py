"""Sessions of the page: a signed cookie that holds a key's id and when it ends, and nothing else."""

from __future__ import annotations

import hmac
from hashlib import sha256

from fastapi import Request

from storage.stores import Stores

COOKIE = "embedmill_session"

#: How long a sign-in lasts, in seconds.
LIFE = 12 * 3600

_SECRET = "sessions"


def new_session(stores: Stores, key_id: str) -> str:
    """Return a cookie's value that speaks for a key until its time is over or the key is revoked.

    Args:
        stores: Keep the secret that signs it.
        key_id: The key's id.
    """
    claim = f"{key_id}.{int(stores.database.clock.now()) + LIFE}"
    return f"{claim}.{_sign(stores, 'session', claim)}"


def session_of(request: Request) -> str | None:
    """Return the session's cookie of a request, if it has one, good or not."""
    return request.cookies.get(COOKIE)


def key_of_session(stores: Stores, value: str) -> str | None:
    """Return the id of the key a session speaks for, or None when it is forged, damaged or over.

    Args:
        stores: Keep the secret that signed it.
        value: The cookie's value.
    """
    claim, _, signature = value.rpartition(".")
    key_id, _, ends = claim.rpartition(".")
    if not hmac.compare_digest(signature.encode(), _sign(stores, "session", claim).encode()):
        return None
    return key_id if stores.database.clock.now() < int(ends) else None


def form_token(stores: Stores, session: str) -> str:
    """Return what every form of a session carries, so that no other site can send one.

    Args:
        stores: Keep the secret that signs it.
        session: The session's cookie; empty where no keys are used.
    """
    return _sign(stores, "form", session)


def _sign(stores: Stores, purpose: str, claim: str) -> str:
    secret = stores.secrets.get(_SECRET)
    return hmac.new(secret, f"{purpose}\n{claim}".encode(), sha256).hexdigest()
