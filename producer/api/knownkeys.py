"""Keys that were found good a moment ago, so that a busy key does not cost a query a request."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time

from storage.contract.errors import ServerError
from storage.keys import KeyRecord, KeyStore

#: How long a key is believed to be good, in seconds: one that is revoked is refused within 5 s.
_BELIEVED = 4.0

#: Most keys that are remembered.
_MOST = 10_000


class KnownKeys:
    """Tells good keys from bad ones; of a key only a hash is remembered, and only of a good one.

    A bad key always costs a query, whatever it looks like, so that time tells nothing about it.

    Args:
        store: Where keys are kept.
    """

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: dict[bytes, tuple[float, KeyRecord]] = {}

    def recall(self, key: str) -> KeyRecord | None:
        """Return a key that was found good a moment ago, or None; asks nobody."""
        found = self._known.get(_digest(key))
        return found[1] if found is not None and time.monotonic() < found[0] else None

    def find(self, key: str) -> KeyRecord:
        """Return a key that may be used.

        Args:
            key: What somebody sent; may be anything.

        Raises:
            Unauthorized: When it may not.
            StorageUnavailable: When the database cannot be reached.
        """
        known = self.recall(key)
        if known is not None:
            return known
        asked = time.monotonic()
        record = self._store.find(key)
        believed = _BELIEVED if record.expires_at is None else min(_BELIEVED, (record.expires_at - record.now) / 1000)
        with self._lock:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[_digest(key)] = (asked + believed, record)
        # That a use cannot be noted just now is no reason to refuse it.
        with contextlib.suppress(ServerError):
            self._store.note_use(record)
        return record

    def forget(self, key_id: str) -> None:
        """Believe a key no longer, because it was revoked here."""
        with self._lock:
            self._known = {digest: known for digest, known in self._known.items() if known[1].id != key_id}


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
