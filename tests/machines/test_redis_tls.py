"""Redis over TLS: what is not to be trusted is refused at once and told in a sentence, by every part."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer.queue import Queue
from storage.contract.broker import KEY_PREFIX, celery_settings
from storage.contract.errors import InvalidOption, QueueUnavailable
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.contract.settings import Settings
from storage.redisclient import redis_client
from tests.machines.authority import Authority
from tests.machines.secureredis import SecureRedis, secure_redis
from tests.worker.taker import BULK, taking
from worker.brokercheck import findings

#: What is wrong with a certificate, and what of it must be told.
WRONG = {
    "nobody vouches for it": "unable to get local issuer certificate|self.signed certificate",
    "its time is over": "certificate has expired",
    "it is another host's": "certificate is not valid for '127.0.0.1'",
}


@pytest.fixture(scope="module", params=WRONG)
def untrusted(
    request: pytest.FixtureRequest, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[SecureRedis, str]]:
    certificate = {
        "nobody vouches for it": lambda: Authority(tmp_path_factory.mktemp("stranger")).certify("127.0.0.1"),
        "its time is over": lambda: authority.certify("127.0.0.1", expired=True),
        "it is another host's": lambda: authority.certify("redis.example.org"),
    }[request.param]()
    with secure_redis(certificate) as server:
        yield server, WRONG[request.param]


def url_of(server: SecureRedis, parameters: str = "", scheme: str = "rediss") -> str:
    return f"{scheme}://127.0.0.1:{server.port}/0{parameters}"


def refusal(url: str) -> str:
    """Return with what words sending is refused."""
    queue = Queue(url)
    with pytest.raises(QueueUnavailable) as raised:
        queue.send([Pointer(new_id(), 0)], BULK)
    queue.close()
    return str(raised.value)


@pytest.mark.usefixtures("patient_senders")
def test_an_untrusted_certificate_is_refused_by_every_part(
    untrusted: tuple[SecureRedis, str], authority: Authority, tmp_path: Path
) -> None:
    server, told = untrusted
    url = url_of(server, f"?ssl_ca_certs={authority.file}")
    # By who sends
    assert re.search(f"certificate is not accepted: .*({told})", refusal(url))
    # By the reconciler, which advises the operator
    with redis_client(url, timeout=20) as client:
        (finding,) = findings(client)
        assert re.search(told, finding) and "ssl_ca_certs" in finding
    # And by the worker's consumer, which goes on trying
    with taking(url, tmp_path / "worker") as worker:
        worker.wait(lambda: "Cannot connect to rediss://" in worker.log())
        assert re.search(told, worker.log())


@pytest.mark.usefixtures("patient_senders")
def test_the_name_alone_may_be_left_unchecked(authority: Authority, tmp_path: Path) -> None:
    with secure_redis(authority.certify("redis.example.org")) as server:
        url = url_of(server, f"?ssl_ca_certs={authority.file}&ssl_check_hostname=false")
        assert is_carried(url)
    # But not who signed it
    with secure_redis(Authority(tmp_path / "stranger").certify("redis.example.org")) as server:
        assert "not accepted" in refusal(url_of(server, f"?ssl_ca_certs={authority.file}&ssl_check_hostname=false"))
        # Unless that is said
        assert is_carried(url_of(server, "?ssl_cert_reqs=none"))


@pytest.mark.usefixtures("patient_senders")
def test_clients_may_need_certificates_of_their_own(authority: Authority) -> None:
    own = authority.certify("worker-1.example.org")
    with secure_redis(authority.certify("127.0.0.1"), ca=authority.file, clients=True) as server:
        trusting = f"?ssl_ca_certs={authority.file}"
        assert "Redis asks clients for a certificate" in refusal(url_of(server, trusting))
        assert is_carried(url_of(server, f"{trusting}&ssl_certfile={own.chain}&ssl_keyfile={own.key}"))


def test_who_speaks_no_tls_or_alone_is_told(authority: Authority) -> None:
    with secure_redis(authority.certify("127.0.0.1")) as server:
        assert "Redis cannot be reached" in refusal(url_of(server, scheme="redis"))
    with secure_redis(None) as server:
        # It waits for the end of a line that never comes
        assert re.search("cannot be reached|do not agree on TLS", refusal(url_of(server)))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("rediss://one?ssl_ca_cert=x", "parameter 'ssl_ca_cert' is not known there; there are ssl_ca_certs=FILE"),
        ("redis://one?timeout=3", "parameter 'timeout' is not known"),
        ("redis://one?ssl_ca_certs=x", "belongs to rediss://"),
        ("rediss://one?ssl_cert_reqs=optional", "ssl_cert_reqs is required or none"),
        ("rediss://one?ssl_check_hostname=maybe", "true or false"),
        ("rediss://one?ssl_ca_certs=/nowhere/ca.pem", "ssl_ca_certs=/nowhere/ca.pem: No such file"),
        ("rediss+sentinel://one/mill?ssl_ca_certs=/nowhere/ca.pem", "No such file"),
        ("redis+sentinel://one/mill?ssl_ca_certs=x", "belongs to rediss://"),
        ("rediss+sentinel://one/mill?ssl_cert_reqs=none&ssl_cert_reqs=none", "twice"),
    ],
)
def test_a_parameter_that_cannot_be_meant_is_refused(url: str, told: str) -> None:
    with pytest.raises(InvalidOption, match=r"EMBEDMILL_REDIS_URL") as raised:
        Settings.load(redis_url=url)
    assert told in str(raised.value)


def test_celery_is_told_to_look_at_certificates_whatever_the_url_leaves_out() -> None:
    for url in ("rediss://one", "rediss+sentinel://one/mill"):
        assert celery_settings(url)["broker_use_ssl"] == {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    assert celery_settings("redis://one")["broker_use_ssl"] is None


def is_carried(url: str) -> bool:
    """Whether what is sent arrives; workers are told of certificates in the same words."""
    queue = Queue(url)
    queue.send([Pointer(new_id(), 7)], BULK)
    queue.close()
    with redis_client(url, timeout=20) as client:
        return bool(client.llen(KEY_PREFIX + BULK) == 1)
