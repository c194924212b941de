"""Fixtures of all that a fleet needs beyond one machine: certificates, and a Redis with TLS and users."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.machines.authority import Authority
from tests.machines.secureredis import SecureRedis, secure_redis
from tests.patience import patiently

#: The users that the documentation advises, as a file that Redis reads.
USERS = Path(__file__).parents[2] / "deploy" / "redis" / "users.acl.example"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whoever signs the certificates of these tests."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def guarded_redis(authority: Authority) -> Iterator[SecureRedis]:
    """A Redis that speaks TLS alone and knows the advised users alone."""
    with secure_redis(authority.certify("127.0.0.1"), acl=USERS.read_text(), ca=authority.file) as server:
        yield server


@pytest.fixture
def patient_senders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Senders wait for an answer as long as a busy machine needs, for tests of what it says."""
    monkeypatch.setattr("producer.queue.sender_settings", partial(patiently, seconds=20))


def users(acl: str) -> dict[str, tuple[str, list[str]]]:
    """Return each user's password and rights in an ACL file."""
    found = {}
    for name, rights in re.findall(r"^user (\S+) on (.*)$", acl, re.MULTILINE):
        words = rights.split()
        found[name] = (words[0].removeprefix(">"), words[1:])
    return found


def redis_url(server: SecureRedis, user: str, authority: Authority) -> str:
    """Return how a program names the guarded Redis, as one of the advised users."""
    password, _ = users(USERS.read_text())[user]
    return f"rediss://{user}:{password}@127.0.0.1:{server.port}/0?ssl_ca_certs={authority.file}"
