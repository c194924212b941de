"""How much waits for each model: what an autoscaler and an alarm ask, cheaply even where ten million texts wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, or_, select

from storage.contract.models import Priority
from storage.database import Database, now_ms
from storage.loads import Load, load_of, waiting
from storage.tables import JOB_IS_OPEN, JobRow, ModelRow, WorkerRow
from storage.wanted import is_wanted
from storage.workers import IS_LIVE

#: A model's name and a priority's, in lower case.
Queue = tuple[str, str]


@dataclass(frozen=True, slots=True)
class QueueBacklog:
    """What waits in one queue or is in hand.

    Args:
        load: How much.
        oldest: Seconds since the last text was accepted of the oldest job that no worker has begun with; 0 without one.
    """

    load: Load
    oldest: float


NOTHING = QueueBacklog(Load(), 0.0)


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for one model or is in hand, at one moment.

    Args:
        bulk: That of bulk jobs.
        urgent: That of urgent jobs.
        oldest_seconds: How long ago the oldest of these jobs was accepted; 0 where there is none.
        workers: Live workers that serve it.
        is_known: Whether a worker of this kind was ever there.
        is_wanted: Whether calls have asked for it lately.
    """

    bulk: Load
    urgent: Load
    oldest_seconds: float
    workers: int
    is_known: bool
    is_wanted: bool = False


class BacklogStore:
    """Every read of backlogs."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def by_queue(self) -> dict[Queue, QueueBacklog]:
        """Return what waits or is in hand, by queue; queues without anything are not named."""
        with self._db.read() as connection:
            ages = {_queue(row): max(0.0, row.age / 1000) for row in connection.execute(_OLDEST)}
            found = connection.execute(_BY_QUEUE).all()
        return {_queue(row): QueueBacklog(load_of(row), ages.get(_queue(row), 0.0)) for row in found}

    def of_model(self, model: str, revision: str | None = None, precision: str | None = None) -> Backlog:
        """Return what waits for one model; nothing where nobody has ever asked for it.

        Args:
            model: Its name, as jobs have it.
            revision: Only what this revision, or one that begins so, may do; default: any.
            precision: Only what a worker of this class of precision may do; default: any.
        """
        identity = [ModelRow.name == model]
        if revision is not None:
            identity.append(ModelRow.revision.startswith(revision, autoescape=True))
        if precision is not None:
            identity.append(ModelRow.precision == precision)
        ids = select(ModelRow.id).where(*identity)
        # A job that no worker's identity was bound to yet is taken by the first one that registers, of any precision.
        theirs = or_(JobRow.model_id.in_(ids), and_(JobRow.model_id.is_(None), JobRow.model == model))
        serving = select(func.count()).select_from(WorkerRow).where(IS_LIVE, WorkerRow.model_id.in_(ids))
        with self._db.read() as connection:
            found = {row.priority: row for row in connection.execute(waiting(JobRow.priority, jobs=[theirs]))}
            now = int(connection.execute(select(now_ms())).scalar_one())
            workers = int(connection.execute(serving).scalar_one())
            is_known = connection.execute(ids.limit(1)).first() is not None
            wanted = bool(connection.execute(select(is_wanted(*identity))).scalar_one())
        bulk, urgent = (
            load_of(found[priority]) if priority in found else Load() for priority in (Priority.BULK, Priority.URGENT)
        )
        oldest = min((int(row.oldest) for row in found.values()), default=now)
        return Backlog(bulk, urgent, max(0, now - oldest) / 1000, workers, is_known, wanted)

    def unserved(self) -> dict[tuple[str, str], int]:
        """Return the tokens that no live worker may do, by model and class of precision; see `JobRow.model_id`.

        A model's name alone does not tell: its worker may be of another revision or precision than a job that has
        begun. The class is empty for jobs that are bound to none yet.
        """
        with self._db.read() as connection:
            found = connection.execute(_UNSERVED).all()
            ids = [row.model_id for row in found if row.model_id is not None]
            kinds = select(ModelRow.id, ModelRow.precision).where(ModelRow.id.in_(ids))
            precisions = {row.id: row.precision for row in connection.execute(kinds)} if ids else {}
        tokens: dict[tuple[str, str], int] = {}
        for row in found:
            kind = row.model, precisions.get(row.model_id, "")
            tokens[kind] = tokens.get(kind, 0) + load_of(row).tokens
        return tokens


def _queue(row: Any) -> Queue:
    return row.model, Priority(row.priority).name.lower()


_BY_QUEUE = waiting(JobRow.model, JobRow.priority)
_SERVED = select(WorkerRow.model_id).where(IS_LIVE)
_UNSERVED = waiting(
    JobRow.model,
    JobRow.model_id,
    jobs=[
        or_(
            JobRow.model_id.not_in(_SERVED),
            and_(JobRow.model_id.is_(None), JobRow.model.not_in(select(ModelRow.name).where(ModelRow.id.in_(_SERVED)))),
        )
    ],
)
_OLDEST = (
    select(JobRow.model, JobRow.priority, (now_ms() - func.min(JobRow.touched_at)).label("age"))
    .where(JOB_IS_OPEN, JobRow.started_at.is_(None))
    .group_by(JobRow.model, JobRow.priority)
)
