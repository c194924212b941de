"""The store of API keys: make them, tell good ones from bad ones, list and revoke them.

A key reads `em_<id>_<secret>`. The id finds its row; of the secret only SHA-256 is kept. A slow hash, as passwords
need, would protect nothing here: 160 random bits cannot be guessed, whatever a guess costs, and it would make every
request pay.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, insert, or_, select, update

from storage.contract.durations import checked_life
from storage.contract.errors import InvalidOption, NotFound, Unauthorized
from storage.contract.keeping import Keeping
from storage.contract.options import check_word
from storage.database import Database, now_ms
from storage.faults import retried
from storage.moments import iso
from storage.quotas import Quota
from storage.tables import KeyRow, QuotaRow

#: What a key may be allowed to do. `admin` may do all of it, and sees the jobs of all keys.
SCOPES = ("read", "write", "embed", "admin")

#: What a key may do when nothing else is said.
DEFAULT_SCOPES = ("read", "write", "embed")

#: Random bytes of an id, which is no secret, and of a secret; base32 makes 16 and 32 letters of them.
_ID_BYTES, _SECRET_BYTES = 10, 20

_KEY = re.compile(r"em_([a-z2-7]{16})_([a-z2-7]{32})")
_ID = re.compile(r"[a-z2-7]{16}")

#: Compared with where there is no such key, so that the answer takes as long.
_NOBODY = hashlib.sha256(secrets.token_bytes(_SECRET_BYTES)).digest()

#: Most letters of a key's name.
_LONGEST_NAME = 200

#: How exactly the last use of a key is known, in milliseconds.
_USE_NOTED = 60_000


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is known of a key; never its secret.

    Args:
        id: What it is named by, and whose jobs are whose.
        name: What a person calls it.
        scopes: What it may do.
        quota: What it may have and use.
        created_at: Milliseconds since 1970, as all times here.
        expires_at: When it ends by itself, or None.
        revoked_at: When it was revoked, or None.
        last_used_at: When it was last used, to the minute, or None.
        keeping: For how long its ended jobs are kept at most, and if nothing else is asked.
        now: When all this was read.
    """

    id: str
    name: str
    scopes: frozenset[str]
    quota: Quota
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    last_used_at: int | None
    keeping: Keeping
    now: int

    @property
    def is_good(self) -> bool:
        """Whether it may be used."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > self.now)

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "id": self.id,
            "name": self.name,
            "scopes": [scope for scope in SCOPES if scope in self.scopes],
            "created_at": iso(self.created_at),
            "expires_at": iso(self.expires_at),
            "revoked_at": iso(self.revoked_at),
            "last_used_at": iso(self.last_used_at),
            "max_texts": self.quota.texts,
            "max_jobs": self.quota.jobs,
            "tokens_per_minute": self.quota.tokens_per_minute,
            "max_stored_bytes": self.quota.stored_bytes,
            "keep_days": self.keeping.days,
            "keep_texts_days": self.keeping.texts_days,
        }


class KeyStore:
    """Every read and write of API keys."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def create(
        self,
        name: str,
        scopes: Iterable[str] = DEFAULT_SCOPES,
        expires_in: float | None = None,
        quota: Quota | None = None,
        keeping: Keeping | None = None,
    ) -> tuple[KeyRecord, str]:
        """Make a key; return what is known of it, and the key itself, which nobody can tell again.

        Args:
            name: What a person calls it: 1 to 200 letters.
            scopes: What it may do.
            expires_in: Seconds after which it ends by itself; None: never.
            quota: What it may have and use; default: anything.
            keeping: For how long its ended jobs are kept at most; default: for as long as the service, or a job, says.

        Raises:
            InvalidOption: When a name, a scope or a time is not usable.
        """
        check_word("name", name)
        if not name.strip() or len(name) > _LONGEST_NAME:
            raise InvalidOption(f"A key's name has 1 to {_LONGEST_NAME} letters.")
        expires_in = checked_life(expires_in)
        key_id, secret = _random_word(_ID_BYTES), _random_word(_SECRET_BYTES)
        end = None if expires_in is None else now_ms() + int(expires_in * 1000)
        values: dict[str, Any] = {"id": key_id, "name": name, "secret_hash": _hash(secret)}
        values |= {"scopes": " ".join(_checked_scopes(scopes)), "created_at": now_ms(), "expires_at": end}
        values |= (keeping or Keeping()).to_row()
        with self._db.write() as connection:
            connection.execute(insert(KeyRow).values(values))
            if quota is not None and quota.is_limited:
                owed = {"key_id": key_id, "owed": 0.0, "as_of": now_ms()}
                connection.execute(insert(QuotaRow).values(owed | quota.to_dict()))
            record = _record(connection.execute(_ONE, {"key": key_id}).one())
        return record, f"em_{key_id}_{secret}"

    def find(self, key: str) -> KeyRecord:
        """Return what is known of a key that may be used; takes about as long for one that may not.

        Args:
            key: What somebody sent; may be anything.

        Raises:
            Unauthorized: When it is malformed, unknown, revoked or expired: nobody can tell which.
        """
        match = _KEY.fullmatch(key)
        key_id, secret = match.groups() if match else ("", "")
        with self._db.read() as connection:
            row = connection.execute(_ONE, {"key": key_id}).first()
        same = hmac.compare_digest(_NOBODY if row is None else row.secret_hash, _hash(secret))
        if row is None or not same or not (record := _record(row)).is_good:
            raise Unauthorized(
                "This needs a valid API key.",
                "Send `Authorization: Bearer em_...`; `embedmill keys create NAME` makes one.",
            )
        return record

    def get(self, key_id: str) -> KeyRecord:
        """Return what is known of the key of an id, good or not.

        Raises:
            NotFound: When there is none.
        """
        if _ID.fullmatch(key_id):  # what is none may hold what no database takes
            with self._db.read() as connection:
                row = connection.execute(_ONE, {"key": key_id}).first()
            if row is not None:
                return _record(row)
        raise NotFound(f"There is no key {key_id[:80]!r}.", "`embedmill keys list` lists all keys.")

    def keeping(self, key_id: str) -> Keeping:
        """Return for how long the ended jobs of an owner are kept at most; of one that has no key, anything goes."""
        if not key_id:
            return Keeping()
        with self._db.read() as connection:
            row = connection.execute(_KEEPING, {"key": key_id}).first()
        return Keeping() if row is None else Keeping.of_row(row.keep_for, row.keep_texts_for)

    def all(self) -> list[KeyRecord]:
        """Return every key, the revoked and expired ones too, oldest first."""
        with self._db.read() as connection:
            return [_record(row) for row in connection.execute(_ALL.order_by(KeyRow.created_at, KeyRow.id))]

    @retried
    def revoke(self, key_id: str) -> bool:
        """End a key for ever; its jobs go on and stay.

        Returns:
            False when it was revoked before.

        Raises:
            NotFound: When there is none of that id.
        """
        self.get(key_id)
        good = (KeyRow.id == key_id, KeyRow.revoked_at.is_(None))
        with self._db.write() as connection:
            return connection.execute(update(KeyRow).where(*good).values(revoked_at=now_ms())).rowcount == 1

    @retried
    def note_use(self, record: KeyRecord) -> None:
        """Note that a key is in use, at most once a minute."""
        before = record.now - _USE_NOTED
        if record.last_used_at is not None and record.last_used_at > before:
            return
        unnoted = or_(KeyRow.last_used_at.is_(None), KeyRow.last_used_at <= before)
        with self._db.write(durable=False) as connection:
            connection.execute(update(KeyRow).where(KeyRow.id == record.id, unnoted).values(last_used_at=now_ms()))


def _checked_scopes(scopes: Iterable[str]) -> list[str]:
    """Return scopes in their usual order, each once.

    Raises:
        InvalidOption: When one is unknown, or there is none.
    """
    asked = set(scopes)
    if not asked or asked - set(SCOPES):
        raise InvalidOption("A key's scopes are some of " + ", ".join(SCOPES) + ".", "Name at least one of them.")
    return [scope for scope in SCOPES if scope in asked]


def _random_word(size: int) -> str:
    return base64.b32encode(secrets.token_bytes(size)).decode().lower()


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


_LIMITS = (QuotaRow.texts, QuotaRow.jobs, QuotaRow.tokens_per_minute, QuotaRow.stored_bytes)
_ALL = select(KeyRow.__table__, *_LIMITS, now_ms().label("now")).outerjoin(QuotaRow, QuotaRow.key_id == KeyRow.id)
_KEEPING = select(KeyRow.keep_for, KeyRow.keep_texts_for).where(KeyRow.id == bindparam("key"))
_ONE = _ALL.where(KeyRow.id == bindparam("key"))


def _record(row: Any) -> KeyRecord:
    return KeyRecord(
        row.id,
        row.name,
        frozenset(row.scopes.split()),
        Quota(row.texts, row.jobs, row.tokens_per_minute, row.stored_bytes),
        row.created_at,
        row.expires_at,
        row.revoked_at,
        row.last_used_at,
        Keeping.of_row(row.keep_for, row.keep_texts_for),
        row.now,
    )
