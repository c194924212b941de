"""What the doctor says of what waits and who works, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from storage.checkups import onqueues
from storage.checkups.check import Outcome, Verdict
from storage.contract.messages import Pointer
from storage.contract.models import Priority
from storage.contract.settings import Settings
from storage.leaders import RECONCILE, LeaderStore
from storage.stores import Stores
from storage.tables import WorkerRow
from tests.doctor.looking import amiss, findings, outcomes
from tests.storage.builders import CARD, serve, serve_for_long, submit


def look(url: str) -> dict[str, Outcome]:
    return amiss(onqueues.area(Settings(database_url=url, model=CARD.name)))


def test_nothing_works_yet(database_url: str) -> None:
    found = look(database_url)
    assert set(found) == {"workers", "reconciler", "model"}
    assert {outcome.verdict for outcome in found.values()} == {Verdict.WARNING}
    assert "embedmill up" in str(found["workers"].remedy)


def test_all_is_well_where_a_worker_and_a_reconciler_live(
    database_url: str, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_for_long(stores)
    monkeypatch.setattr("storage.leaders._TERM", 3_600_000)  # longer than any machine stands still
    LeaderStore(stores.database).lead(RECONCILE, "0190a000-0000-7000-8000-000000000001")
    submit(stores)
    found = look(database_url)
    # But for the tokenizer, which this worker has not brought
    assert set(found) == {"model"} and "tokenizer" in found["model"].found
    told = outcomes(onqueues.area(Settings(database_url=database_url, model=CARD.name)))
    assert "wait" in told["waiting"].found and told["rows"].found == "All rows are as they must be."


def test_a_worker_that_has_been_silent_is_told_of(database_url: str, stores: Stores) -> None:
    serve_for_long(stores)
    frozen = serve(stores)
    with stores.database.write() as connection:
        late = update(WorkerRow).where(WorkerRow.id == frozen)
        connection.execute(late.values(last_seen=WorkerRow.last_seen - 20_000, pid=4712))
    told = look(database_url)["workers"]
    assert told.verdict is Verdict.WARNING and "1 of 2 worker processes" in told.found
    assert "cpu on millhouse (pid 4712): 2" in told.found and len(told.details) == 2


def test_what_nobody_takes_is_told_of(database_url: str, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a message nobody answers, and a lease that is over without a reconciler
    monkeypatch.setattr(onqueues, "_UNCLAIMED", -1000)
    monkeypatch.setattr(onqueues, "_OVERDUE", -1_000_000)
    worker = serve(stores)
    first, _ = submit(stores), submit(stores)
    assert len(stores.chunks.dispatch(CARD.id, Priority.BULK)) > 1
    assert stores.leases.claim(Pointer(first, 0), worker, CARD.id, 0)
    found = look(database_url)
    assert found["unclaimed"].verdict is Verdict.WARNING and "sent again" not in found["unclaimed"].found
    assert found["leases"].verdict is Verdict.WRONG and "embedmill reconcile" in str(found["leases"].remedy)
    assert found["reconciler"].verdict is Verdict.WRONG


def test_work_for_a_model_nobody_serves_is_told_of(database_url: str, stores: Stores) -> None:
    worker = serve(stores)
    submit(stores)
    stores.workers.leave(worker)
    told = look(database_url)["waiting"]
    assert told.verdict is Verdict.WARNING and CARD.name in told.found and "--model" in str(told.remedy)


def test_rows_that_must_not_be_and_defences_that_were_needed_are_told_of(database_url: str, stores: Stores) -> None:
    serve(stores)
    submit(stores)
    with stores.database.write() as connection:
        connection.exec_driver_sql("UPDATE chunks SET state = 'done'")
        connection.exec_driver_sql("INSERT INTO counters (name, value) VALUES ('workers_died', 3)")
    found = look(database_url)
    assert found["rows"].verdict is Verdict.WRONG and "done_without_result" in found["rows"].found
    assert found["defences"].verdict is Verdict.WARNING
    assert found["defences"].details == ("3 times: worker processes crashed",)


def test_where_the_schema_is_another_nothing_is_asked(database_url: str, stores: Stores) -> None:
    with stores.database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    found = findings(onqueues.area(Settings(database_url=database_url)))
    with stores.database.write() as connection:
        from storage.database import SCHEMA_VERSION

        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{SCHEMA_VERSION}'")
    assert {finding.outcome.verdict for finding in found} == {Verdict.NOT_CHECKED}
    assert not any(finding.unreachable for finding in found)
