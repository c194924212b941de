"""The look for a caller's id: by its hash, in the database."""

from sqlalchemy import select, update

from storage import texts as packing
from storage.database import Database
from storage.idhashes import CANDIDATES
from storage.stores import Stores
from storage.tables import InputRow
from tests.storage.builders import chunk, serve, submit


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
        found = connection.execute(CANDIDATES, {"job": job_id, "hash": wanted}).all()
        assert [row.number for row in found] == [0, 2]
        assert len(connection.execute(select(InputRow.number).where(InputRow.job_id == job_id)).all()) == 4
