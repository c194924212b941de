"""A job whose texts are all there waits for its key's quota, as long as its sender has patience."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import update

from producer.patience import Patience, of_sender
from producer.records import Record
from producer.submission import Submission
from storage.contract.errors import QuotaExceeded
from storage.contract.options import JobOptions
from storage.database import Database
from storage.stores import Stores
from storage.tables import QuotaRow
from tests.storage.builders import CARD, serve
from tests.storage.test_jobs import count_rows
from tests.storage.test_quotas import freeze, limited

#: Texts of a job that is written in several transactions, of a kilobyte each.
LONG = 2_200


def indebted(stores: Stores, database: Database) -> str:
    """Return a key for a thousand tokens a minute that owes one, and whose bucket does not leak."""
    key = limited(stores, tokens_per_minute=1000)
    set_debt(database, key, 1.0)
    freeze(database, key)
    return key


def set_debt(database: Database, key: str, tokens: float) -> None:
    with database.write() as connection:
        connection.execute(update(QuotaRow).where(QuotaRow.key_id == key).values(owed=tokens))


@contextmanager
def waited_for_by(patience: Patience) -> Iterator[None]:
    token = of_sender.set(patience)
    try:
        yield
    finally:
        of_sender.reset(token)


def submitted(stores: Stores, key: str) -> str:
    asked = {"model": CARD.name, "revision": None, "card": CARD, "options": JobOptions(), "key_id": key}
    records = (Record("wheat " * 170, f"sack-{number}") for number in range(LONG))
    return Submission(stores, **asked).run(records)  # type: ignore[arg-type]


def test_a_job_that_may_come_in_a_moment_is_sealed_then(stores: Stores, database: Database) -> None:
    # Given a key that owes a token, and a job larger than what it may submit in a minute
    serve(stores)
    key = indebted(stores, database)
    asked: list[float | None] = []

    class Payer(Patience):
        def outlasts(self, seconds: float | None) -> bool:
            asked.append(seconds)
            if len(asked) == 3:
                set_debt(database, key, 0.0)
            return super().outlasts(0.0)

    # When it is paid while somebody waits
    with waited_for_by(Payer()):
        job_id = submitted(stores, key)
    # Then the job is accepted as a whole, and was asked for only as often as it was refused
    assert stores.jobs.get(job_id).total == LONG
    assert len(asked) == 3 and all(seconds is not None and seconds > 0 for seconds in asked)


@pytest.mark.parametrize("patience", ["none", "gone", "short"])
def test_who_does_not_wait_hears_at_once_and_nothing_is_left(stores: Stores, database: Database, patience: str) -> None:
    # Given the same, and nobody who waits, or one who has gone, or one whose patience is too short
    serve(stores)
    key = indebted(stores, database)
    sender = Patience(0.0 if patience == "short" else 3600.0)
    if patience == "gone":
        sender.end()
    # When it is submitted, then it is refused, with the time after which it would not be
    with pytest.raises(QuotaExceeded) as refused:
        if patience == "none":
            submitted(stores, key)
        else:
            with waited_for_by(sender):
                submitted(stores, key)
    assert refused.value.retry_after is not None
    assert stores.jobs.list_ids(key_id=key) == []
    for _ in range(100):
        for job_id in stores.purges.marked():
            stores.purges.purge(job_id)
    assert count_rows(database) == [0, 0, 0, 0]


def test_what_no_time_helps_is_not_waited_for() -> None:
    assert not Patience().outlasts(None)
    assert not Patience(10.0).outlasts(11.0)
    assert Patience(3600.0).outlasts(0.0)
