"""The store of texts, for whoever reads them again once they are submitted."""

from __future__ import annotations

from sqlalchemy import select

from storage import texts
from storage.contract.errors import UnknownJob, WrongState
from storage.database import Database
from storage.tables import ChunkRow, InputRow


class InputStore:
    """Every read of a job's texts but that of whoever embeds them."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def texts(self, job_id: str, first: int) -> list[str]:
        """Return the texts of the chunk that begins with an item; empty where the item was invalid.

        Args:
            job_id: The job.
            first: Position of the chunk's first item.

        Raises:
            UnknownJob: When it is gone.
            WrongState: When its texts are gone, as was asked for when it was submitted.
        """
        same = (InputRow.job_id == ChunkRow.job_id) & (InputRow.number == ChunkRow.number)
        wanted = select(InputRow.texts).join(ChunkRow, same).where(ChunkRow.job_id == job_id, ChunkRow.first == first)
        with self._db.read() as connection:
            # The two halves of a chunk that was split have rows, the whole one has none.
            row = connection.execute(wanted.limit(1)).first()
        if row is None:
            raise UnknownJob(job_id)
        if not row.texts:
            raise WrongState(f"The texts of job {job_id} are gone, as was asked for.", "Do without them.")
        return texts.unpack(row.texts)
