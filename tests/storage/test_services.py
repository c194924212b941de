"""The service's processes, over both databases."""

from __future__ import annotations

from sqlalchemy import update

from storage.contract.ids import new_id
from storage.database import Database, now_ms
from storage.releases import HERE
from storage.stores import Stores
from storage.tables import ServiceRow


def set_seen(database: Database, seconds: int) -> None:
    with database.write() as connection:
        connection.execute(update(ServiceRow).values(last_seen=now_ms() - 1000 * seconds))


def test_a_process_of_the_service_is_there_until_it_leaves_or_is_silent_for_long(
    stores: Stores, database: Database
) -> None:
    # Given two processes, one of which is noted again
    first, second = new_id(), new_id()
    stores.services.note(first, "here", 2)
    stores.services.note(second, "here", 1)
    stores.services.note(first, "here", 2)
    assert [(one.id, one.pid, one.release) for one in stores.services.live()] == [(second, 1, HERE), (first, 2, HERE)]
    # When one leaves, then it is gone
    stores.services.leave(second)
    assert [one.id for one in stores.services.live()] == [first]
    # When the other is silent, then it is not alive, and comes back when it is heard of
    set_seen(database, 61)
    assert stores.services.live() == []
    stores.services.note(first, "here", 2)
    assert [one.id for one in stores.services.live()] == [first]
    # And after ten minutes of silence nothing is left of it
    set_seen(database, 601)
    stores.services.forget_gone()
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM services").scalar_one() == 0
