"""The look for a caller's id: by its hash, in the database."""

import pytest
from sqlalchemy import event, select, update

from storage import idhashes
from storage import texts as packing
from storage.database import Database
from storage.idhashes import CANDIDATES
from storage.stores import Stores
from storage.tables import InputRow
from tests.storage.builders import chunk, claim, serve, submit


def test_an_id_is_sought_by_the_database_and_bytes_across_two_hashes_are_not_taken_for_it(
    stores: Stores, database: Database
) -> None:
    serve(stores)
    # Given three chunks with an id each, one without any, and the wanted hash across two of the first one's
    ids = [["0"], ["1"], ["2"], None]
    job_id = submit(stores, [chunk(number, ("rye",), ids=some) for number, some in enumerate(ids)])
    wanted = packing.hash_ids(["2"]).tobytes()
    with database.write() as connection:
        first = update(InputRow).where(InputRow.job_id == job_id, InputRow.number == 0)
        connection.execute(first.values(id_hashes=b"rye" + wanted + b"wheat"))
    # When it is sought
    page = stores.results.find(job_id, "2")
    # Then it is found where it is
    assert page is not None and page.first == 2
    # And those that have other hashes were left where they are
    with database.read() as connection:
        found = connection.execute(CANDIDATES, {"job": job_id, "hash": wanted, "least": 0, "below": 4}).all()
        assert [row.number for row in found] == [0, 2]
        assert len(connection.execute(select(InputRow.number).where(InputRow.job_id == job_id)).all()) == 4


def test_an_id_is_sought_among_some_thousand_chunks_at_a_time(
    stores: Stores, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a job of seven chunks, of which two are looked through at a time
    monkeypatch.setattr(idhashes, "RANGE", 2)
    worker = serve(stores)
    job_id = submit(stores, [chunk(number, ids=[f"{number}a", f"{number}b"]) for number in range(7)])
    looked: list[str] = []

    def look(connection: object, cursor: object, statement: str, *_: object) -> None:
        if "id_hashes" in statement:
            looked.append(statement)
            # When one further on is split beside that
            if len(looked) == 2:
                for _ in range(2):
                    claim(stores, job_id, 5, worker)
                    stores.leases.release_worker(worker, died=True)

    # Then each id is found, after so many looks
    for number in range(7):
        page = stores.results.find(job_id, f"{number}b")
        assert page is not None and page.first == 2 * number
    event.listen(database.engine, "after_cursor_execute", look)
    page = stores.results.find(job_id, "5b")
    assert page is not None and page.first == 11
    event.remove(database.engine, "after_cursor_execute", look)
    looked.clear()
    event.listen(database.engine, "after_cursor_execute", look)
    assert stores.results.find(job_id, "nobody's") is None
    event.remove(database.engine, "after_cursor_execute", look)
    assert len(looked) == 5
