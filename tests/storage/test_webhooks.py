"""The store of webhooks, and which addresses are refused."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, update

from storage import webhooks
from storage.contract.errors import Conflict, InvalidOption
from storage.contract.ids import new_id
from storage.contract.webhookurls import checked_url, is_public
from storage.database import Database
from storage.stores import Stores
from storage.tables import JobRow
from storage.webhooktables import WebhookRow
from tests.storage.builders import serve, submit

URL = "https://hooks.example.org/mill"


def test_the_end_of_a_job_is_told_until_it_is_answered_well(stores: Stores) -> None:
    # Given a job whose end is to be told, given twice
    serve(stores)
    job_id = submit(stores)
    for _ in range(2):
        stores.webhooks.add(job_id, "anna", URL)
    assert [hook.state for hook in stores.webhooks.of_job(job_id)] == ["waiting"]
    assert stores.webhooks.ended() == []
    # When it ends
    stores.jobs.cancel(job_id)
    [(webhook_id, ended, generation)] = stores.webhooks.ended()
    assert ended == job_id
    stores.webhooks.begin(webhook_id, generation, "{}")
    # Then the message is due, until a try is noted, and again after its pause
    [first] = stores.webhooks.due()
    assert stores.webhooks.ended() == []
    stores.webhooks.missed(first, 500, "answered 500", 0)
    [second] = stores.webhooks.due()
    assert (second.message_id, second.attempts, second.last_error) == (first.message_id, 1, "answered 500")
    # And what a late first try notes changes nothing
    stores.webhooks.missed(first, None, "timed out", None)
    stores.webhooks.delivered(second, 204)
    assert stores.webhooks.due() == []
    [hook] = stores.webhooks.of_job(job_id)
    assert (hook.state, hook.attempts, hook.last_status, hook.last_error) == ("delivered", 2, 204, None)
    # And it is not told again
    stores.webhooks.tidy()
    assert stores.webhooks.ended() == []


def counted(stores: Stores) -> list[int]:
    found = stores.counters.all()
    return [found[f"webhooks_{name}"] for name in ("delivered", "failed", "given_up")]


def test_each_try_is_counted_once_by_who_notes_it(stores: Stores) -> None:
    # Given three ends that are to be told
    serve(stores)
    jobs = [submit(stores) for _ in range(3)]
    for job_id in jobs:
        stores.webhooks.add(job_id, "", URL)
        stores.jobs.cancel(job_id)
    for webhook_id, _, generation in stores.webhooks.ended():
        stores.webhooks.begin(webhook_id, generation, "{}")
    one, other, third = stores.webhooks.due()
    # When one is taken, another refused twice and then given up, and the third refused
    stores.webhooks.delivered(one, 204)
    stores.webhooks.missed(other, 500, "answered 500", 0)
    [other] = [hook for hook in stores.webhooks.due() if hook.id == other.id]
    stores.webhooks.missed(other, 410, "answered 410", None)
    stores.webhooks.missed(third, None, "timed out", 60)
    # Then each is counted, in the database itself: a service adds nothing up from time to time
    assert counted(stores) == [1, 3, 1]
    # And what a late try notes is not
    stores.webhooks.delivered(third, 204)
    assert counted(stores) == [1, 3, 1]


def test_an_end_is_due_from_its_job_s_end_until_it_is_told(stores: Stores, database: Database) -> None:
    # Given a webhook of a job that is not over
    serve(stores)
    job_id = submit(stores)
    stores.webhooks.add(job_id, "", URL)
    assert stores.webhooks.overdue() == 0
    # When the job has ended an hour ago, and nobody has begun to tell it
    stores.jobs.cancel(job_id)
    with database.write() as connection:
        connection.execute(update(JobRow).values(finished_at=JobRow.finished_at - 3_600_000))
    assert 3600 <= stores.webhooks.overdue() < 3900
    # When it is begun with, then it is due since then
    [(webhook_id, _, generation)] = stores.webhooks.ended()
    stores.webhooks.begin(webhook_id, generation, "{}")
    assert stores.webhooks.overdue() < 300
    with database.write() as connection:
        connection.execute(update(WebhookRow).values(next_at=WebhookRow.next_at - 7_200_000))
    assert 7200 <= stores.webhooks.overdue() < 7500
    # And between two tries, and after the last, nothing is due
    [hook] = stores.webhooks.due()
    stores.webhooks.missed(hook, 500, "answered 500", 600)
    assert stores.webhooks.overdue() == 0
    with database.write() as connection:
        connection.execute(update(WebhookRow).values(state="failed", next_at=None))
    assert stores.webhooks.overdue() == 0


def test_the_webhooks_of_a_job_that_is_gone_go_with_it(stores: Stores) -> None:
    # Given a job that was cancelled and deleted
    serve(stores)
    job_id = submit(stores)
    stores.webhooks.add(job_id, "", URL)
    stores.jobs.cancel(job_id)
    stores.purges.delete(job_id)
    # When tidied, then nothing is left of it
    assert stores.webhooks.ended() == []
    stores.webhooks.tidy()
    assert stores.webhooks.of_job(job_id) == []


def test_a_jobs_end_is_told_to_a_few_and_to_no_more(stores: Stores) -> None:
    # Given a job whose end is told to as many as it may be
    serve(stores)
    job_id, other = submit(stores), submit(stores)
    urls = [f"{URL}/{number}" for number in range(webhooks.MOST)]
    for url in urls:
        stores.webhooks.add(job_id, "anna", url)
    # When it should be told to one more, then that is refused; one that it is told to already is nothing new
    with pytest.raises(Conflict, match="8 webhooks already"):
        stores.webhooks.add(job_id, "anna", f"{URL}/more")
    stores.webhooks.add(job_id, "anna", urls[0])
    assert [hook.url for hook in stores.webhooks.of_job(job_id)] == urls
    # And another job has its own
    stores.webhooks.add(other, "anna", f"{URL}/more")
    assert len(stores.webhooks.of_job(other)) == 1


def test_messages_of_some_owners_can_be_left_out(stores: Stores) -> None:
    # Given messages of two owners, the first one's the longest overdue
    serve(stores)
    for owner in ("anna", "ben"):
        job_id = submit(stores)
        stores.webhooks.add(job_id, owner, URL)
        stores.jobs.cancel(job_id)
        [(webhook_id, _, generation)] = stores.webhooks.ended()
        stores.webhooks.begin(webhook_id, generation, "{}")
    # Then each is due without the other
    assert [hook.key_id for hook in stores.webhooks.due(1)] == ["anna"]
    assert [hook.key_id for hook in stores.webhooks.due(1, without={"anna"})] == ["ben"]
    assert stores.webhooks.due(without={"anna", "ben"}) == []


def test_tidying_up_where_there_is_nothing_to_tidy_keeps_nobody_from_writing(
    migrated_sqlite: Path, tmp_path: Path
) -> None:
    path = shutil.copy(migrated_sqlite, tmp_path / "mill.sqlite3")
    with closing(Database(f"sqlite:///{path}", busy_timeout=50)) as database:
        stores = Stores.on(database)
        serve(stores)
        stores.webhooks.add(submit(stores), "", "https://hooks.example.org/mill")
        # Given somebody who writes, when the webhooks are looked through, then nobody waits for the other
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            stores.webhooks.tidy()


def test_however_many_webhooks_are_left_all_go(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "_TIDIED_AT_ONCE", 2)
    serve(stores)
    kept = submit(stores)
    gone = [new_id() for _ in range(5)]
    for job_id in (kept, *gone):
        stores.webhooks.add(job_id, "", "https://hooks.example.org/mill")
    stores.webhooks.tidy()
    assert [len(stores.webhooks.of_job(job_id)) for job_id in (kept, *gone)] == [1, 0, 0, 0, 0, 0]


def test_a_new_secret_leaves_the_old_one_valid_beside_it(stores: Stores) -> None:
    # Given the secret of one owner
    first = stores.webhooks.rotate("anna")
    assert first.startswith("whsec_") and stores.webhooks.secrets("anna") == [first]
    # When a new one is made, then both sign; another owner has his own
    second = stores.webhooks.rotate("anna")
    assert stores.webhooks.secrets("anna") == [second, first]
    assert not {first, second} & set(stores.webhooks.secrets("ben"))
    assert stores.webhooks.secrets("ben") == stores.webhooks.secrets("ben")


def test_of_two_first_secrets_at_once_neither_is_refused(stores: Stores, open_again: Callable[[], Stores]) -> None:
    # Given an owner without a secret, for whom another process makes one just before the row is added
    others = open_again().webhooks
    made: list[str] = []

    def make_first(*told: Any) -> None:
        if str(told[2]).startswith("INSERT INTO webhook_secrets") and not made:
            made.append("")
            made[0] = others.rotate("anna")

    if stores.database.is_sqlite:
        # There whoever writes has begun before he looks: the other comes before or after.
        made.append(others.rotate("anna"))
    event.listen(stores.database.engine, "before_cursor_execute", make_first)
    # When a secret is made
    second = stores.webhooks.rotate("anna")
    # Then both sign
    assert stores.webhooks.secrets("anna") == [second, *made]


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.org/",
        "ftp://hooks.example.org/",
        "https:///path",
        "https://user:word@hooks.example.org/",
        "https://hooks.example.org/#part",
        "https://hooks.example.org:0/",
        "https://hooks.example.org:port/",
        "https://[::1/",
        "https://hooks.example.org/a b",
        "https://localhost/",
        "https://127.0.0.1/",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest/meta-data",
        "https://100.64.0.1/",
        "https://0.0.0.0/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://[fe80::1]/",
        "https://[fec0::1]/",
        "https://[64:ff9b:1::a00:1]/",
        "https://192.0.0.192/",
        "https://hooks.example.org/" + "a" * 2000,
        "",
        "hooks",
    ],
)
def test_an_address_that_nothing_may_be_sent_to_is_refused(url: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        checked_url(url)
    assert "word" not in str(refused.value)


def test_public_addresses_pass_and_others_where_they_are_allowed() -> None:
    for url in (URL, "https://93.184.216.34:8443/x?y=z"):
        assert checked_url(url) == url
    assert checked_url("http://127.0.0.1:9000/", frozenset({"127.0.0.1:9000"}))
    assert checked_url("http://receiver/", frozenset({"receiver"}))
    with pytest.raises(InvalidOption):
        checked_url("http://127.0.0.1:9001/", frozenset({"127.0.0.1:9000"}))
    assert is_public("2606:2800:220:1:248:1893:25c8:1946") and not is_public("fd00::1")
