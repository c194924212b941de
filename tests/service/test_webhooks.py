"""Webhooks: a job's end is told once it is there, signed, again until it is answered well, and never to our inside."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread, Timer
from typing import Any

import httpx
import pytest
import standardwebhooks
from sqlalchemy import update

from embedmill import Client
from producer.api import deliverer, outbound
from producer.api.settings import ApiSettings
from producer.job import Job
from producer.remote import upload
from producer.sender import Sender
from storage.contract.errors import InvalidOption, StorageUnavailable
from storage.tables import JobRow
from storage.webhooktables import WebhookRow, WebhookSecretRow
from tests.acceptance.shell import Shell, until
from tests.service.receiver import Receiver, receiving
from tests.service.serving import Served, serving

RELIABILITY = Path(__file__).parents[2] / "docs" / "reliability.md"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little patience between looks and between tries, and much within one: whoever answers here answers well."""
    monkeypatch.setattr(deliverer, "_TICK", 0.05)
    monkeypatch.setattr(deliverer, "_TIDY", 0.2)
    monkeypatch.setattr(deliverer, "SCHEDULE", (0.1, 0.1))
    monkeypatch.setattr(outbound, "_STEP", 100.0)
    monkeypatch.setattr(outbound, "_WHOLE", 100.0)


@contextmanager
def telling(folder: Path, receiver: Receiver) -> Iterator[Served]:
    """A service of its own that may tell the receiver."""
    settings = ApiSettings.load(data_dir=folder, webhook_hosts=f"elsewhere, 127.0.0.1:{receiver.port}")
    with serving(settings) as served:
        yield served


def submitted(served: Served, url: str, owner: str = "") -> Job:
    """A job, whose worker never comes, with a webhook."""
    job = served.service.client.submit(["a text"])
    served.service.stores.webhooks.add(job.id, owner, url)
    return job


def test_the_end_of_a_job_is_told_signed_until_it_is_answered_well(
    tmp_path: Path, receiver: Receiver, quick: None
) -> None:
    # Given a receiver that is out of order at first, and knows the secret
    receiver.answers = [500, 302]
    with telling(tmp_path, receiver) as served, served.http() as http:
        secret = http.post("/v1/webhooks/secret").json()["secret"]
        job = submitted(served, receiver.url)
        assert http.get(f"/v1/jobs/{job.id}/webhooks").json()["data"][0]["state"] == "waiting"
        # When the job ends
        job.cancel()
        until(lambda: _state(http, job)["state"] == "delivered", "the delivery")
        # Then each try was the same message, to the same address, and verifies
        assert len(receiver.told) == 3
        for path, headers, body in receiver.told:
            assert path == "/hook?of=mill"
            told = standardwebhooks.Webhook(secret).verify(body, headers)
            assert (told["type"], told["data"]["id"]) == ("job.cancelled", job.id)
            assert told["timestamp"] == told["data"]["finished_at"]
        assert len({headers["webhook-id"] for _, headers, _ in receiver.told}) == 1
        state = _state(http, job)
        assert (state["attempts"], state["last_status"], state["last_error"]) == (3, 204, None)
        # And with another secret it does not
        with pytest.raises(standardwebhooks.webhooks.WebhookVerificationError):
            standardwebhooks.Webhook("whsec_" + "A" * 44).verify(receiver.told[0][2], receiver.told[0][1])


def test_rows_that_cannot_be_read_keep_no_other_end_from_being_told(
    tmp_path: Path, receiver: Receiver, quick: None
) -> None:
    with telling(tmp_path, receiver) as served, served.http() as http:
        stores = served.service.stores
        # Given an end that was to be told of a job whose row is spoilt, and one of an owner whose secret is
        spoilt, unsigned, good = (submitted(served, f"{receiver.url}&{name}") for name in ("spoilt", "un", "good"))
        stores.webhooks.rotate("gone")
        with stores.database.write() as connection:
            connection.execute(update(WebhookSecretRow).values(secret="whsec_A"))
            connection.execute(update(WebhookRow).where(WebhookRow.job_id == unsigned.id).values(key_id="gone"))
            ended = {"finished_at": 1, "state": "flour"}
            connection.execute(update(JobRow).where(JobRow.id == spoilt.id).values(ended))
        # When others end after them, then that is told, and of them what can be
        for job in (unsigned, good):
            job.cancel()
        until(lambda: _state(http, good)["state"] == "delivered", "the delivery")
        until(lambda: _state(http, unsigned)["last_error"] is not None, "the note")
        (told,) = stores.webhooks.of_job(unsigned.id)
        assert told.last_error == "What is kept of it cannot be read." and told.attempts
        assert len(receiver.told) == 1


@pytest.mark.parametrize("how", ["JSON", "NDJSON", "parts"])
def test_a_job_that_is_accepted_has_its_webhook_whatever_ends_the_process_then(
    tmp_path: Path, receiver: Receiver, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a service that dies as soon as a job is accepted: nothing is written after that
    with telling(tmp_path, receiver) as served, served.http() as http:
        stores = served.service.stores
        seen: list[list[str]] = []

        def died(*_: object, **__: object) -> None:
            seen.append([hook.url for job in stores.jobs.list_ids() for hook in stores.webhooks.of_job(job)])
            raise StorageUnavailable("The process died.")

        monkeypatch.setattr(type(stores.webhooks), "add", died)
        monkeypatch.setattr(Sender, "due", died)
        asked: dict[str, Any] = {"webhook": {"url": receiver.url}}
        # When a job is submitted in each way
        if how == "JSON":
            http.post("/v1/jobs", json=asked | {"texts": ["wheat"]})
        elif how == "NDJSON":
            lines = b"\n".join(b'"%d %s"' % (number, b"wheat " * 200) for number in range(2000))
            told = {"webhook": receiver.url}
            http.post("/v1/jobs", params=told, content=lines, headers={"Content-Type": "application/x-ndjson"})
        else:
            job = http.post("/v1/jobs", json=asked | {"parts": True}).headers["location"]
            http.put(f"{job}/parts/0", content=b'"wheat"', headers={"Content-Type": "application/x-ndjson"})
            http.post(f"{job}/seal")
        # Then the webhook was there with it
        (job_id,) = stores.jobs.list_ids()
        assert seen == [[receiver.url]]
        assert [(hook.url, hook.state) for hook in stores.webhooks.of_job(job_id)] == [(receiver.url, "waiting")]


def test_a_submission_that_is_repeated_with_another_webhook_tells_both(tmp_path: Path, receiver: Receiver) -> None:
    with telling(tmp_path, receiver) as served, served.http() as http:
        urls = [receiver.url, f"{receiver.url}&more", receiver.url]
        for url in urls:
            asked = {"texts": ["wheat"], "webhook": {"url": url}}
            (job,) = {http.post("/v1/jobs", json=asked, headers={"Idempotency-Key": "one"}).json()["id"]}
        assert [hook.url for hook in served.service.stores.webhooks.of_job(job)] == urls[:2]


def test_a_receiver_that_never_answers_well_is_given_up(tmp_path: Path, receiver: Receiver, quick: None) -> None:
    # Given a receiver that refuses for ever
    receiver.answers = [503] * 9
    with telling(tmp_path, receiver) as served, served.http() as http:
        job = submitted(served, receiver.url)
        job.cancel()
        # When all tries are over, then that is told, and nothing more is sent
        until(lambda: _state(http, job)["state"] == "failed", "the last try")
        state = _state(http, job)
        assert (state["attempts"], state["last_status"]) == (3, 503)
        assert state["last_error"] == "It was answered with 503."
        assert state["next_attempt_at"] is None and len(receiver.told) == 3


def test_a_receiver_that_wants_nothing_any_more_is_given_up_at_once(
    tmp_path: Path, receiver: Receiver, quick: None
) -> None:
    # Given a receiver that is gone for good
    receiver.answers = [410]
    with telling(tmp_path, receiver) as served, served.http() as http:
        job = submitted(served, receiver.url)
        # When the job ends, then it is told once, and never again
        job.cancel()
        until(lambda: _state(http, job)["state"] == "failed", "the only try")
        state = _state(http, job)
        assert (state["attempts"], state["last_status"], state["next_attempt_at"]) == (1, 410, None)
        assert len(receiver.told) == 1


def test_tries_are_as_many_and_take_as_long_as_is_promised() -> None:
    promised = re.search(r"given up after (\d+) tries in (\d+) hours", RELIABILITY.read_text())
    assert promised
    # The first try, and one after each pause
    told = 1 + len(deliverer.SCHEDULE), round(sum(deliverer.SCHEDULE) / 3600)
    assert told == (int(promised[1]), int(promised[2]))


def test_what_a_service_that_is_no_more_has_begun_is_told_by_the_next(
    tmp_path: Path, receiver: Receiver, quick: None
) -> None:
    # Given a message that was begun, and whose sender died before anything was noted
    with telling(tmp_path, receiver) as served:
        job = submitted(served, "http://127.0.0.1:1/nobody")
        served.service.stores.webhooks.add(job.id, "", receiver.url)
    with telling(tmp_path, receiver) as served, served.http() as http:
        stores = served.service.stores
        hook = next(hook for hook in stores.webhooks.of_job(job.id) if hook.url == receiver.url)
        stores.webhooks.begin(hook.id, 0, '{"type":"job.cancelled"}')
        # When the next service runs, then it is told
        until(lambda: receiver.told, "the message")
        assert receiver.told[0][2] == b'{"type":"job.cancelled"}'
        until(lambda: stores.webhooks.of_job(job.id)[1].state == "delivered", "its note")
        # And what may not be sent anywhere is not sent
        assert http.post(f"/v1/jobs/{job.id}/cancel").is_success
        until(lambda: http.get(f"/v1/jobs/{job.id}/webhooks").json()["data"][0]["last_error"], "the refusal")
        assert "no TLS" in http.get(f"/v1/jobs/{job.id}/webhooks").json()["data"][0]["last_error"]


def test_a_message_is_due_until_it_was_answered_well(tmp_path: Path, receiver: Receiver, quick: None) -> None:
    # Given a receiver that has the message and has not answered yet
    receiver.silent.set()
    with telling(tmp_path, receiver) as served:
        stores = served.service.stores
        job = submitted(served, receiver.url)
        job.cancel()
        until(lambda: receiver.told, "the message")
        # Then whoever comes after a process that dies now tells it again, under the same id
        [due] = stores.webhooks.due()
        assert (due.message_id, due.attempts) == (receiver.told[0][1]["webhook-id"], 0)
        # When it is answered well, then no more
        receiver.silent.clear()
        until(lambda: stores.webhooks.of_job(job.id)[0].state == "delivered", "the note")
        assert stores.webhooks.due() == [] and len(receiver.told) == 1


def test_an_owner_whose_receiver_never_answers_keeps_nobody_elses_ends_from_being_told(
    tmp_path: Path, receiver: Receiver, quick: None
) -> None:
    # Given an owner with more ends to tell than are told at once, to somebody who says nothing
    receiver.silent.set()
    with telling(tmp_path, receiver) as served:
        for _ in range(deliverer._AT_ONCE + 1):
            submitted(served, f"{receiver.url}&silent", "anna").cancel()
        until(lambda: len(receiver.told) == deliverer._OF_ONE, "the first messages")
        # When a job of somebody else ends, then that is told although none of the others was answered
        submitted(served, f"{receiver.url}&ben", "ben").cancel()
        until(lambda: receiver.told[-1][0].endswith("&ben"), "the message of the other")
        assert len(receiver.told) == deliverer._OF_ONE + 1
        receiver.silent.clear()


def test_owners_have_their_ends_told_in_turn(
    tmp_path: Path, receiver: Receiver, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given one place, taken by an owner two more of whose jobs ended before the first of another
    monkeypatch.setattr(deliverer, "_AT_ONCE", 1)
    receiver.silent.set()
    with telling(tmp_path, receiver) as served:
        for number, owner in enumerate(("anna", "anna", "anna", "ben")):
            submitted(served, f"{receiver.url}&{owner}", owner).cancel()
            until(lambda count=number + 1: len(served.service.stores.webhooks.due()) == count, "the end")
        until(lambda: receiver.told, "the first message")
        assert [path for path, _, _ in receiver.told] == ["/hook?of=mill&anna"]
        # When the place is free, then it is the other's turn
        receiver.silent.clear()
        until(lambda: len(receiver.told) == 4, "all messages")
        owners = [path.rpartition("&")[2] for path, _, _ in receiver.told]
        assert owners == ["anna", "ben", "anna", "anna"]


def test_a_public_name_that_means_this_machine_is_not_connected_to(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a name of the public network whose address is this machine's
    resolved = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", receiver.port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: resolved)
    # When something is sent there, then no connection is made
    with pytest.raises(outbound.NotDelivered, match="no address on the public network"):
        outbound.send(f"https://hooks.example.org:{receiver.port}/", b"{}", {}, frozenset())
    # And where TLS is asked for, it is needed
    with pytest.raises(outbound.NotDelivered, match="TLS"):
        allowed = frozenset({"hooks.example.org"})
        outbound.send(f"https://hooks.example.org:{receiver.port}/", b"{}", {}, allowed)
    assert receiver.told == []


def test_one_that_answers_a_letter_at_a_time_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given little patience, and a receiver that takes the message and says nothing
    monkeypatch.setattr(outbound, "_STEP", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        # When something is sent there, then the try ends
        with pytest.raises(outbound.NotDelivered, match="in time"):
            outbound.send(f"http://127.0.0.1:{port}/", b"{}", {}, frozenset({"127.0.0.1"}))


def test_the_time_of_a_try_is_over_although_it_ran_out_before_there_was_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a name that is looked up for longer than a try may take, and a receiver whose answer would have no end
    found = socket.getaddrinfo
    monkeypatch.setattr(outbound, "_WHOLE", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **more: (Event().wait(0.5), found(*given, **more))[1])
    over = Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def dribble() -> None:
            with server.accept()[0] as wire, suppress(OSError):
                while not over.wait(0.05):
                    wire.sendall(b"H")

        thread = Thread(target=dribble, daemon=True)
        thread.start()
        # When something is sent there, then the try ends all the same
        clock = Timer(60, over.set)
        clock.start()
        with pytest.raises(outbound.NotDelivered, match="in time"):
            outbound.send(f"http://127.0.0.1:{server.getsockname()[1]}/", b"{}", {}, frozenset({"127.0.0.1"}))
        assert not over.is_set()
        clock.cancel()
        over.set()
        thread.join()


def test_a_submission_names_its_webhook_and_one_that_leads_inside_is_refused(
    tmp_path: Path, receiver: Receiver, quick: None
) -> None:
    # Given a service, when a job is submitted with an address of its inside, then nothing is accepted
    with telling(tmp_path, receiver) as served, served.http() as http:
        for url in ("https://169.254.169.254/", "http://127.0.0.1:1/", "https://user:word@example.org/"):
            refused = http.post("/v1/jobs", json={"texts": ["a"], "webhook": {"url": url}})
            assert refused.status_code == 400 and "word" not in refused.text
        assert http.get("/v1/jobs").json()["data"] == []
        # When with a good one, twice under one key, then its end is told once
        for _ in range(2):
            body = {"texts": ["a"], "webhook": {"url": receiver.url}}
            accepted = http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "once"})
            assert accepted.status_code == 202
        job_id = accepted.json()["id"]
        http.post(f"/v1/jobs/{job_id}/cancel")
        until(lambda: receiver.told, "the message")
        shown = http.get(f"/v1/jobs/{job_id}/webhooks").json()["data"]
        assert [state["url"] for state in shown] == [receiver.url]


@pytest.mark.parametrize("way", ["storage", "http", "http in parts"])
def test_either_client_has_a_jobs_end_told(
    tmp_path: Path, receiver: Receiver, quick: None, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a service, and a client that may name the same receiver
    monkeypatch.setenv("EMBEDMILL_WEBHOOK_HOSTS", f"127.0.0.1:{receiver.port}")
    if way == "http in parts":
        monkeypatch.setattr(upload, "AT_ONCE", 10)
    with telling(tmp_path, receiver) as served:
        stores = served.service.stores
        place: dict[str, Any] = {"data_dir": tmp_path} if way == "storage" else {"url": served.url}
        with Client(**place) as client:
            # When jobs are submitted with a webhook, one of them again with another
            job = client.submit(["rye", "wheat"], webhook=receiver.url, idempotency_key="one")
            again = client.submit(["rye", "wheat"], webhook=f"{receiver.url}&more", idempotency_key="one")
            plain = client.submit(["rye", "wheat"])
            # Then both are kept of that job, and its end is told to both
            assert again.id == job.id and stores.webhooks.of_job(plain.id) == []
            assert [hook.url for hook in stores.webhooks.of_job(job.id)] == [receiver.url, f"{receiver.url}&more"]
            job.cancel()
            until(lambda: len(receiver.told) == 2, "the end of the job")


_REFUSED = ["https://169.254.169.254/", "http://example.org/", "mill", "", 7, "https://a.b/" + "x" * 2000]


@pytest.mark.parametrize("over", ["storage", "http"])
@pytest.mark.parametrize("bad", _REFUSED)
def test_either_client_refuses_what_nothing_may_be_sent_to(
    tmp_path: Path, receiver: Receiver, over: str, bad: Any
) -> None:
    with telling(tmp_path, receiver) as served:
        place: dict[str, Any] = {"data_dir": tmp_path} if over == "storage" else {"url": served.url}
        with Client(**place) as client:
            with pytest.raises(InvalidOption):
                client.submit(["rye"], webhook=bad)
            assert client.jobs() == []


@pytest.mark.parametrize("over", ["storage", "http"])
def test_the_command_line_names_a_webhook(tmp_path: Path, receiver: Receiver, over: str) -> None:
    with telling(tmp_path / "data", receiver) as served:
        variables = {"EMBEDMILL_WEBHOOK_HOSTS": f"127.0.0.1:{receiver.port}"}
        shell = Shell(
            tmp_path / "data", tmp_path, variables | ({"EMBEDMILL_URL": served.url} if over == "http" else {})
        )
        shell.write("sacks.txt", "rye\n")
        good, bad = shell.together(
            [("submit", "sacks.txt", "--webhook", url) for url in (receiver.url, "http://169.254.169.254/")]
        )
        assert good.code == 0 and bad.code == 2 and "webhook" in bad.err, (good, bad)
        assert [hook.url for hook in served.service.stores.webhooks.of_job(good.job_id)] == [receiver.url]


def _state(http: httpx.Client, job: Job) -> dict[str, Any]:
    [state] = http.get(f"/v1/jobs/{job.id}/webhooks").json()["data"]
    assert isinstance(state, dict)
    return state
