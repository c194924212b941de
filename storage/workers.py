"""The store of models and of the workers that serve them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from storage.contract.models import ModelCard
from storage.contract.tokens import TokenizerFile
from storage.database import Database, now_ms
from storage.faults import retried
from storage.pulses import Pulse
from storage.releases import HERE, Release
from storage.tables import JOB_IS_UNFINISHED, WORKERS, JobRow, ModelRow, WorkerRow
from storage.tokenizers import PackedTokenizer, keep_tokenizer

logger = logging.getLogger(__name__)

#: A worker not seen for so long counts as gone, in milliseconds; it is seen about every 5 s.
LIVE_WITHIN = 30_000

#: Whether a worker is alive.
IS_LIVE = WorkerRow.last_seen > now_ms() - LIVE_WITHIN


@dataclass(frozen=True, slots=True)
class Served:
    """A registered model, how many live workers serve it now, and when one did first, in milliseconds since 1970."""

    card: ModelCard
    workers: int
    first_seen: int = 0


class WorkerStore:
    """Every read and write of models and workers."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def register(
        self,
        card: ModelCard,
        worker_id: str,
        host: str,
        pid: int,
        device: str,
        tokenizer: TokenizerFile | None = None,
        release: Release = HERE,
    ) -> None:
        """Tell everybody that this worker, warmed, serves the model; jobs that waited for it are bound to it.

        Args:
            card: The model identity.
            worker_id: The id of this start of the process.
            host: Where it runs.
            pid: Its process id there.
            device: What it is pinned to, as a person reads it.
            tokenizer: The model's tokenizer, for those who have no model; None: what is kept stays.
            release: Which program it is.
        """
        packed = PackedTokenizer.of(tokenizer) if tokenizer is not None else None
        row = {"id": worker_id, "model_id": card.id, "host": host, "pid": pid, "device": device}
        row |= {"version": release.version, "schema_version": release.schema}
        try:
            self._register(card, row, packed)
        except IntegrityError:
            # Another worker has registered the same new model in the same moment: now it is known.
            self._register(card, row, packed)

    @retried
    def _register(self, card: ModelCard, worker: dict[str, Any], packed: PackedTokenizer | None) -> None:
        with self._db.write() as connection:
            values = {"card": card.to_dict(), "last_seen": now_ms()}
            known = connection.execute(update(ModelRow).where(ModelRow.id == card.id).values(values))
            if not known.rowcount:
                identity = {"id": card.id, "name": card.name, "revision": card.revision, "precision": card.precision}
                connection.execute(insert(ModelRow).values(**identity, **values, first_seen=now_ms()))
            connection.execute(insert(WorkerRow).values(**worker, started_at=now_ms(), last_seen=now_ms()))
            if packed is not None:
                keep_tokenizer(connection, card.id, packed)
            _adopt_waiting_jobs(connection, card)

    @retried
    def adopt(self, card: ModelCard) -> None:
        """Bind jobs to a served identity that slipped past its registration."""
        with self._db.read() as connection:
            if not connection.execute(select(JobRow.id).where(*_unbound(card)).limit(1)).first():
                return
        with self._db.write() as connection:
            _adopt_waiting_jobs(connection, card)

    def leave(self, worker_id: str) -> None:
        """Forget a worker that has stopped."""
        with self._db.write() as connection:
            connection.execute(delete(WorkerRow).where(WorkerRow.id == worker_id))

    def knows(self, worker_id: str) -> bool:
        """Whether a worker is registered; one that was silent for long has been forgotten, though it may be alive."""
        with self._db.read() as connection:
            return connection.execute(select(WorkerRow.id).where(WorkerRow.id == worker_id)).first() is not None

    def forget_gone(self) -> None:
        """Forget workers that have not been seen for ten times as long as a live one may be silent."""
        with self._db.write() as connection:
            connection.execute(delete(WorkerRow).where(WorkerRow.last_seen < now_ms() - 10 * LIVE_WITHIN))

    def live(self) -> Counter[str]:
        """Return the number of live workers by model id."""
        with self._db.read() as connection:
            return live_workers(connection)

    def devices(self) -> list[str]:
        """Return what the live workers are pinned to, each name once, in order."""
        with self._db.read() as connection:
            return list(connection.execute(_DEVICES).scalars())

    def find(self, name: str, revision: str | None = None) -> list[Served]:
        """Return the identities ever registered under a name, those served now first, then the latest seen."""
        wanted = _NAMED
        if revision is not None:
            wanted = wanted.where(ModelRow.revision.startswith(revision, autoescape=True))
        with self._db.read() as connection:
            live = live_workers(connection)
            found = _readable(connection.execute(wanted, {"name": name}), live)
        return sorted(found, key=lambda served: served.workers == 0)

    def cards(self) -> list[Served]:
        """Return every model identity ever registered, by name."""
        with self._db.read() as connection:
            live = live_workers(connection)
            return _readable(connection.execute(_ALL), live)


# Statements that run all the time are put together once: that costs several times what running them does.
_DEVICES = select(WorkerRow.device).where(IS_LIVE).distinct().order_by(WorkerRow.device)
_KNOWN = select(ModelRow.id, ModelRow.card, ModelRow.first_seen)
_NAMED = _KNOWN.where(ModelRow.name == bindparam("name")).order_by(ModelRow.last_seen.desc())
_ALL = _KNOWN.order_by(ModelRow.name)
_TOUCH = update(WORKERS).where(WorkerRow.id == bindparam("worker")).values(last_seen=now_ms())
_TELL = _TOUCH.values({field.name: bindparam(field.name) for field in fields(Pulse)})
_LIVE = select(WorkerRow.model_id, func.count()).where(IS_LIVE).group_by(WorkerRow.model_id)

#: Models whose row cannot be read and that were told of: those who look do so every second.
_told: set[str] = set()


def _readable(rows: Iterable[Any], live: Counter[str]) -> list[Served]:
    """Return the models of these rows; one that cannot be read hides no other."""
    found = []
    for model_id, card, first_seen in rows:
        try:
            found.append(Served(ModelCard.from_dict(card), live[model_id], first_seen))
        except (TypeError, AttributeError):
            if model_id not in _told:
                _told.add(model_id)
                logger.error("the row of model %s cannot be read: nothing is sent to it", model_id)
    return found


def touch_worker(connection: Connection, worker_id: str, pulse: Pulse | None = None) -> None:
    """Note, inside a running transaction, that a worker is alive.

    Args:
        connection: Of the transaction.
        worker_id: Whose row.
        pulse: How it is; None: what it told before stays.
    """
    if pulse is None:
        connection.execute(_TOUCH, {"worker": worker_id})
    else:
        connection.execute(_TELL, {"worker": worker_id, **asdict(pulse)})


def live_workers(connection: Connection) -> Counter[str]:
    """Return, inside a running transaction, the number of live workers by model id."""
    return Counter({row[0]: row[1] for row in connection.execute(_LIVE)})


def _adopt_waiting_jobs(connection: Connection, card: ModelCard) -> None:
    """Bind jobs to this identity that were accepted before any worker had registered their model.

    Also those that have not begun and are bound to another precision of it that nobody serves any more.
    """
    connection.execute(update(JobRow).where(*_unbound(card)).values(model_id=card.id))


def _unbound(card: ModelCard) -> tuple[ColumnElement[bool], ...]:
    asked = func.substr(card.revision, 1, func.length(JobRow.revision)) == JobRow.revision
    live = select(WorkerRow.model_id).where(IS_LIVE)
    forsaken = JobRow.started_at.is_(None) & (JobRow.model_id != card.id) & JobRow.model_id.not_in(live)
    bindable = JobRow.model_id.is_(None) | forsaken
    return (JOB_IS_UNFINISHED, JobRow.model == card.name, bindable, JobRow.revision.is_(None) | asked)


def bind_to_known_model(connection: Connection, job_id: str) -> None:
    """Bind, inside a running transaction, a job whose model was registered while it was being submitted."""
    known = select(ModelRow.id).where(ModelRow.name == JobRow.model)
    asked = func.substr(ModelRow.revision, 1, func.length(JobRow.revision)) == JobRow.revision
    known = known.where(JobRow.revision.is_(None) | asked)
    latest = known.order_by(ModelRow.last_seen.desc()).limit(1).correlate(JobRow).scalar_subquery()
    unbound = (JobRow.id == job_id, JobRow.model_id.is_(None))
    connection.execute(update(JobRow).where(*unbound).values(model_id=latest))
