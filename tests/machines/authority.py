"""A certificate authority of one's own, and what it certifies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificate:
    """A server's or client's.

    Args:
        chain: File of the certificate.
        key: File of its private key; readable for everybody, since the servers of tests run as other users.
    """

    chain: Path
    key: Path


class Authority:
    """Certifies names of hosts and addresses.

    Args:
        folder: Where its files lie.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self._count = 0
        #: File of the authority's own certificate, which clients are given.
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def certify(self, *names: str, expired: bool = False) -> Certificate:
        """Return a new certificate.

        Args:
            *names: Host names and addresses that it is good for.
            expired: Whether its time was over yesterday.
        """
        now = datetime.now(UTC)
        life = {"not_before": now - timedelta(days=9), "not_after": now - timedelta(days=1)} if expired else {}
        made = self._ca.issue_cert(*names, **life)
        self._count += 1
        chain, key = self._folder / f"{self._count}.pem", self._folder / f"{self._count}.key"
        made.cert_chain_pems[0].write_to_path(str(chain))
        made.private_key_pem.write_to_path(str(key))
        key.chmod(0o644)
        return Certificate(chain, key)
