"""The Python client: submit texts, get a job back at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from producer.anyclient import AnyClient, refuse_beside
from producer.job import Job
from producer.queue import Queue
from producer.records import RecordLike, records_of
from producer.sender import Sender
from producer.servedmodels import ServedModels
from producer.submission import Submission
from storage import tracing
from storage.contract.errors import ServerError
from storage.contract.ids import checked_job_id
from storage.contract.models import model_name, priority_named, queue_name
from storage.contract.options import JobOptions, check_word
from storage.contract.settings import Settings, listed
from storage.contract.webhookurls import checked_url
from storage.hints import Hints
from storage.jobfilter import JobFilter, checked_page
from storage.jobstatus import JobStatus
from storage.stores import Stores
from storage.workers import Served


class Client(AnyClient):
    """Submits jobs and finds them again; needs the database, and Redis only to be quick.

    Args:
        url: None, or it would be the address of a service; see `AnyClient`.
        database_url: Default: EMBEDMILL_DATABASE_URL, else the embedded database under `data_dir`.
        redis_url: Default: EMBEDMILL_REDIS_URL, else the embedded server under `data_dir`.
        data_dir: Default: EMBEDMILL_DATA_DIR, else the user's data folder.
        model: Model of jobs that name none. Default: EMBEDMILL_MODEL, else all-MiniLM-L6-v2.
        settings: All of these at once, instead; nothing is named beside them.
        folders: Whether a model may be named by a folder of this machine, by any of its paths; not where names come
            from elsewhere: what folders there are is nobody's business.

    Raises:
        InvalidOption: When something is named beside `settings`.
        StorageUnavailable: When the database cannot be reached.
        SchemaMismatch: When the database must be migrated, or this program upgraded.
    """

    def __init__(
        self,
        url: None = None,
        *,
        database_url: str | None = None,
        redis_url: str | None = None,
        data_dir: str | Path | None = None,
        model: str | None = None,
        settings: Settings | None = None,
        folders: bool = True,
    ) -> None:
        self._folders = folders
        given = {"database_url": database_url, "redis_url": redis_url, "data_dir": data_dir, "model": model}
        refuse_beside(settings, **given)
        self.settings = settings or Settings.load(**given)
        tracing.start(self.settings, "producer")
        self._stores = Stores.open(self.settings)
        self._queue = Queue(self.settings.redis)
        self._hints = Hints(self.settings.redis)
        #: Which models are served.
        self.served = ServedModels(self._stores.workers)
        self._sender = Sender(self._stores, self._queue, self.served)

    def close(self) -> None:
        """Close the connections; jobs go on."""
        self._queue.close()
        self._hints.close()
        self._stores.database.close()

    def prepare(self) -> None:
        """Load what the first submission would else load while somebody waits for it; for a process that lives long."""
        self._queue.prepare()

    def redis_answers(self) -> bool:
        """Whether Redis answers within a second; where it did not a moment ago it is not asked."""
        return self._hints.answers()

    @property
    def stores(self) -> Stores:
        """Every store of the database in use, for what the client itself has no word for."""
        return self._stores

    def named(self, model: str | None) -> str:
        """Return the one name of a model that somebody asked for; None: that of the settings' model."""
        if not model:
            return model_name(self.settings.model)
        return model_name(model) if self._folders else model.strip()

    def submit(
        self,
        texts: Iterable[str],
        *,
        ids: Iterable[str] | None = None,
        model: str | None = None,
        revision: str | None = None,
        on_invalid: str = "refuse",
        idempotency_key: str | None = None,
        priority: str = "bulk",
        expires_in: float | None = None,
        keep_days: float | None = None,
        keep_texts_days: float | None = None,
        name: str | None = None,
        labels: dict[str, str] | None = None,
        webhook: str | None = None,
        **options: Any,
    ) -> Job:
        """Submit texts; when this returns, every one of them is safe in the database.

        Args:
            texts: Any iterable of strings, of any length; read once, in constant memory.
            ids: The callers' ids, one a text, each only once in the job; 16 bytes of memory an id.
            model: Hub name or folder. Default: the settings' model.
            revision: Commit hash, or its beginning. Default: the revision that is served.
            on_invalid: `refuse` accepts nothing if an item is invalid; `keep` makes it that item's error.
            idempotency_key: Submitting the same payload with the same key again returns the same job.
            priority: `bulk`, or `urgent` for a few texts that somebody waits for.
            expires_in: Seconds after which the job ends as `expired`: what is done by then stays, the rest is
                cancelled. Default: never.
            keep_days: Days after its end that the job is kept. Default: as the key says, else
                EMBEDMILL_KEEP_DAYS, else 30.
            keep_texts_days: The same for its texts, which `retry` needs; 0: they go at the end. Default: as the key
                says, else EMBEDMILL_KEEP_TEXTS_DAYS, else as long as the job.
            name: What a person calls the job.
            labels: Words of the caller's own, by their names, by which `jobs` finds it again.
            webhook: Address, `https://...`, that the service tells the job's end.
            **options: See `JobOptions`: pooling, normalize, layer, max_length, padding, on_long, prompt, prompt_name,
                dimensions, store_dtype, deterministic.

        Returns:
            The job's handle; its `notice` says when the job has to wait for something.

        Raises:
            InvalidItems: When items are invalid and `on_invalid` is `refuse`; nothing was accepted.
            InvalidOption: When an option is unknown or does not fit the model.
            UnknownModel: When no worker has ever served the model and it is not the default.
            IdempotencyConflict: When the key was used with another payload.
            StorageUnavailable: When the database cannot be reached; nothing was accepted.
        """
        return self.submit_records(
            records_of(texts, ids),
            with_ids=ids is not None,
            model=model,
            revision=revision,
            on_invalid=on_invalid,
            idempotency_key=idempotency_key,
            priority=priority,
            expires_in=expires_in,
            keep_days=keep_days,
            keep_texts_days=keep_texts_days,
            name=name,
            labels=labels,
            webhook=webhook,
            options=JobOptions.from_dict(options),
        )

    def submit_records(
        self,
        records: Iterable[RecordLike],
        *,
        with_ids: bool,
        model: str | None = None,
        revision: str | None = None,
        on_invalid: str = "refuse",
        idempotency_key: str | None = None,
        priority: str = "bulk",
        key_id: str = "",
        expires_in: float | None = None,
        keep_days: float | None = None,
        keep_texts_days: float | None = None,
        kind: str = "job",
        name: str | None = None,
        labels: dict[str, str] | None = None,
        webhook: str | None = None,
        options: JobOptions | None = None,
    ) -> Job:
        """Submit what a reader yields; the same as `submit`, with places that a person can find again.

        Args:
            records: What was read.
            with_ids: Whether each has a caller's id.
            model: As for `submit`, as are all others.
            revision: See there.
            on_invalid: See there.
            idempotency_key: See there; each owner has keys of his own.
            priority: See there.
            key_id: Whose job it is: what is under way is shared fairly between owners.
            expires_in: See there.
            keep_days: See there.
            keep_texts_days: See there.
            kind: `job`, `call` or `batch`; see `NewJob`.
            name: See there.
            labels: See there.
            webhook: See there.
            options: See there.
        """
        asked = {"with_ids": with_ids, "on_invalid": on_invalid, "idempotency_key": idempotency_key, "key_id": key_id}
        asked |= {"keep_days": keep_days, "keep_texts_days": keep_texts_days}
        asked |= {"expires_in": expires_in, "kind": kind, "name": name, "labels": labels, "webhook": webhook}
        submission, wanted, served = self._submission(model, revision, priority, options or JobOptions(), **asked)
        job = self._handle(submission.run(records))
        try:
            if served is not None and submission.marked is not None:
                queue = queue_name(wanted, served.card.id, priority_named(priority))
                job.notice = self._sender.marked(submission.marked, queue)
            elif served is not None and served.workers and job.id == submission.job_id:
                job.notice = self._sender.next(wanted, served.card.id, priority_named(priority))
            else:
                job.notice = self._sender.due(job.record())
        except ServerError as error:
            # The job is accepted: whatever fails from here on, its id must not be lost.
            job.notice = f"The job is safe; it starts by itself. {error.message}"
        self._tell_too(job, submission, key_id, webhook)
        # Its message was sent first: whoever works on it meanwhile would lose power too, and nobody knows the id yet.
        # An earlier submission with this idempotency key may not have come so far.
        self._stores.database.settle()
        return job

    def open_parts(
        self,
        *,
        model: str | None = None,
        revision: str | None = None,
        priority: str = "bulk",
        options: JobOptions | None = None,
        **asked: Any,
    ) -> Job:
        """Open a job that takes its texts in parts, which `Parting` takes; it is accepted when it is sealed.

        Args:
            model: As for `submit_records`, as are all others.
            revision: See there.
            priority: See there.
            options: See there.
            **asked: `on_invalid`, `idempotency_key`, `key_id`, `expires_in`, `keep_days`, `keep_texts_days`, `name`,
                `labels` and `webhook`; see there.
        """
        submission, _, _ = self._submission(model, revision, priority, options or JobOptions(), **asked)
        job = self._handle(submission.open())
        self._tell_too(job, submission, asked.get("key_id", ""), asked.get("webhook"))
        return job

    def send(self, job: Job) -> None:
        """Send what the window has room for of a job that was just accepted; its notice says why that cannot be."""
        try:
            job.notice = self._sender.due(job.record())
        except ServerError as error:
            # The job is accepted: whatever fails from here on, its id must not be lost.
            job.notice = f"The job is safe; it starts by itself. {error.message}"

    def job(self, job_id: str | UUID) -> Job:
        """Return the handle of a job.

        Args:
            job_id: Its UUIDv7.

        Raises:
            UnknownJob: When there is none of that id.
        """
        job = self._handle(checked_job_id(job_id))
        job.record()
        return job

    def jobs(
        self,
        limit: int = 20,
        before: str | UUID | None = None,
        *,
        states: Iterable[str] | None = None,
        model: str | None = None,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[JobStatus]:
        """Return where the newest jobs stand, newest first; see `AnyClient.jobs`."""
        wanted = JobFilter(
            states=states, model=model and self.named(model), name=name, labels=labels, since=since, until=until
        )
        found = self._stores.jobs.list_ids(limit, checked_page(limit, before), wanted)
        return self._stores.statuses.many(found)

    def _submission(
        self, model: str | None, revision: str | None, priority: str, options: JobOptions, **asked: Any
    ) -> tuple[Submission, str, Served | None]:
        """Return a submission, with the name of its model and the identity that it is bound to."""
        check_word("model", model)
        check_word("revision", revision)
        if asked.get("webhook") is not None:  # before anything is written
            checked_url(asked["webhook"], listed(self.settings.webhook_hosts))
        wanted = self.named(model)
        served = self.served.bound(wanted, revision, is_usual=wanted == self.named(None))
        if served is not None:
            options.check_against(served.card)
        submission = Submission(
            self._stores,
            model=wanted,
            revision=revision,
            card=served.card if served is not None else None,
            options=options,
            priority=priority_named(priority),
            usual=self.settings.keeping,
            max_text_bytes=self.settings.max_text_bytes,
            marking=served is not None and served.workers > 0,
            **asked,
        )
        return submission, wanted, served

    def _tell_too(self, job: Job, submission: Submission, key_id: str, webhook: str | None) -> None:
        """Tell an earlier job's end there too: it may have been made without this webhook. New ones have it."""
        if webhook is not None and job.id != submission.job_id:
            self._stores.webhooks.add(job.id, key_id, webhook)

    def _handle(self, job_id: str) -> Job:
        return Job(job_id, self._stores, self._hints, self._sender.due)
