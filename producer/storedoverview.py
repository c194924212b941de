"""Overviews out of storage."""

from __future__ import annotations

import time

from producer.overview import Overview, QueueLine, WorkerLine, shown
from storage.checkups.places import shown as shown_place
from storage.contract.settings import Settings
from storage.contract.states import JobState
from storage.jobfilter import JobFilter
from storage.loads import Load
from storage.statuses import Look
from storage.stores import Stores

_UNFINISHED = JobFilter(states=(JobState.ACCEPTING, JobState.QUEUED, JobState.RUNNING))


class StoredOverviews:
    """Asks the database.

    Args:
        settings: Say where it is.

    Raises:
        StorageUnavailable: When it cannot be reached.
        SchemaMismatch: When its schema is another than this program knows.
    """

    def __init__(self, settings: Settings) -> None:
        self._stores = Stores.open(settings)
        self.where = shown_place(settings.database)

    def close(self) -> None:
        """Close the connections."""
        self._stores.database.close()

    def look(self, jobs: int) -> Overview:
        """Return how all stands now.

        Args:
            jobs: At most so many of them.
        """
        begun = time.perf_counter()
        looks = self._looks(jobs)
        workload, served = self._stores.workloads.get(beside=looks), self._stores.workers.cards()
        names = {one.card.id: one.card.name for one in served}
        queues = [
            QueueLine(
                one.card.name,
                one.card.precision,
                one.workers,
                workload.queued.get(one.card.id, Load()).texts,
                workload.queued.get(one.card.id, Load()).tokens,
                workload.oldest_seconds.get(one.card.id),
                workload.tokens_per_second.get(one.card.id, 0.0),
            )
            for one in served
        ]
        if unknown := workload.queued.get(""):
            queues.append(QueueLine("", "", 0, unknown.texts, unknown.tokens, workload.oldest_seconds.get(""), 0.0))
        workers = [
            WorkerLine(
                one.device,
                one.host,
                one.pid,
                names.get(one.model_id, ""),
                one.jobs,
                one.in_hand.texts,
                one.in_hand.tokens,
                one.up_seconds,
                one.silent_seconds,
                one.release.version,
                one.pulse,
            )
            for one in workload.workers
        ]
        found = [look.status for look in looks]
        return Overview([queue for queue in queues if shown(queue)], workers, found, time.perf_counter() - begun)

    def _looks(self, most: int) -> list[Look]:
        ids = self._stores.jobs.list_ids(most, wanted=_UNFINISHED)
        if len(ids) < most:
            ids += [job_id for job_id in self._stores.jobs.list_ids(most) if job_id not in set(ids)][: most - len(ids)]
        return self._stores.statuses.looks(ids)
