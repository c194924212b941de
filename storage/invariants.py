"""What must hold of the rows at every moment, looked at a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, select, tuple_

from storage.contract.errors import ServerError
from storage.contract.states import FINAL_JOB_STATES, OPEN_CHUNK_STATES, ChunkState
from storage.database import Database
from storage.tables import ChunkRow, InputRow, JobRow, ResultRow

#: Chunks of one page: a few milliseconds' work.
PAGE = 500

#: A job of more chunks is not added up: that would take longer than any statement may, in each round anew.
_HUGE = 10_000

#: That of a job with very many chunks some are still open after its end; see `storage/settling.py`.
_IS_SETTLED = JobRow.unsettled_after.is_(None)

#: A chunk's job and number; the first page begins after this one.
Place = tuple[str, int]
START: Place = ("00000000-0000-0000-0000-000000000000", -1)


@dataclass(frozen=True, slots=True)
class Findings:
    """What one page shows.

    Args:
        broken: By the name of the invariant: how many rows break it.
        next: Where the next page begins; None after the last one.
        error: Why nobody knows what it shows, although there are rows; None: it was looked at.
    """

    broken: dict[str, int]
    next: Place | None
    error: ServerError | None = None


class InvariantStore:
    """Every look for rows that must not be; each is one statement, so that it sees one moment."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def check(self, after: Place = START, page: int = PAGE) -> Findings:
        """Look at the chunks that follow a place, and at the jobs among them whose first chunk is there, but huge ones.

        Args:
            after: Where the page before ended.
            page: Chunks to look at.
        """
        key = tuple_(ChunkRow.job_id, ChunkRow.number)
        following = select(ChunkRow.job_id, ChunkRow.number).where(key > after).order_by(*key).limit(page)
        with self._db.read() as connection:
            places = [(str(row.job_id), int(row.number)) for row in connection.execute(following)]
        if not places:
            return Findings({}, None)
        following_page = places[-1] if len(places) == page else None
        try:
            return Findings(self._broken(after, places), following_page)
        except ServerError as error:
            # A page that takes too long must not be tried for ever, and keep the others.
            return Findings({}, following_page, error)

    def _broken(self, after: Place, places: list[Place]) -> dict[str, int]:
        firsts = [job_id for job_id, number in places if number == 0]
        with self._db.read() as connection:
            counts = connection.execute(_of_chunks(after, places[-1])).one()
            wrong = connection.execute(_miscounted_jobs(firsts)).scalar_one() if firsts else 0
        broken = {name: int(count) for name, count in counts._mapping.items() if count}
        if wrong:
            broken["items_missing"] = int(wrong)
        return broken


def _of_chunks(after: Place, last: Place) -> Any:
    """Return the query that counts the rows that break each invariant, over chunks with what belongs to them.

    Args:
        after: The first chunk comes after this place.
        last: Place of the last one.
    """
    state, final = ChunkRow.state, JobRow.state.in_(list(FINAL_JOB_STATES))
    rules: dict[str, ColumnElement[bool]] = {
        "leased_by_nobody": (state == ChunkState.LEASED)
        & (ChunkRow.lease_owner.is_(None) | ChunkRow.lease_expires.is_(None)),
        "done_without_result": (state == ChunkState.DONE) & ResultRow.token.is_(None),
        "done_and_miscounted": (state == ChunkState.DONE) & (ChunkRow.succeeded + ChunkRow.failed != ChunkRow.size),
        "open_in_ended_job": final & state.in_(list(OPEN_CHUNK_STATES)) & JobRow.deleted_at.is_(None) & _IS_SETTLED,
        "without_texts": (state != ChunkState.SPLIT) & InputRow.number.is_(None) & JobRow.deleted_at.is_(None),
        "result_of_a_later_token": ResultRow.token > ChunkRow.token,
    }
    broken = [func.coalesce(func.sum(case((rule, 1), else_=0)), 0).label(name) for name, rule in rules.items()]
    joined = select(*broken).select_from(ChunkRow).join(JobRow, JobRow.id == ChunkRow.job_id)
    for row in (InputRow, ResultRow):
        same = and_(row.job_id == ChunkRow.job_id, row.number == ChunkRow.number)
        # Told of each table: else PostgreSQL may well read all results for the sake of one page.
        joined = joined.outerjoin(row, and_(same, *_between(row, after, last)))
    return joined.where(*_between(ChunkRow, after, last))


def _between(row: Any, after: Place, last: Place) -> tuple[ColumnElement[bool], ...]:
    key = tuple_(row.job_id, row.number)
    return key > after, key <= last


def _miscounted_jobs(job_ids: list[str]) -> Any:
    """Return the query that counts accepted jobs, but huge ones, whose chunks hold more or fewer items than were."""
    parts = (ChunkRow.job_id == JobRow.id, ChunkRow.state != ChunkState.SPLIT)
    held = select(func.coalesce(func.sum(ChunkRow.size), 0)).where(*parts).correlate(JobRow).scalar_subquery()
    accepted = (JobRow.id.in_(job_ids), JobRow.chunk_count.between(1, _HUGE), JobRow.deleted_at.is_(None))
    return select(func.count()).select_from(JobRow).where(*accepted, JobRow.total != held)
