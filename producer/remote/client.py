"""The Python client over HTTP: submit texts to a service elsewhere, get a job back at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from producer.anyclient import AnyClient, refuse_beside
from producer.records import RecordLike, records_of
from producer.remote.connection import Connection
from producer.remote.job import HttpJob
from producer.remote.upload import Upload
from producer.remote.values import PAGE, status_of
from storage.contract.durations import checked_life, checked_number
from storage.contract.errors import InvalidOption, ServerError
from storage.contract.ids import checked_job_id
from storage.contract.keeping import Keeping
from storage.contract.labels import check_labels, check_name
from storage.contract.models import priority_named
from storage.contract.options import JobOptions, check_word
from storage.contract.settings import Settings
from storage.jobfilter import JobFilter, checked_page
from storage.jobstatus import JobStatus

#: Most jobs that the service lists at a time.
_LISTED = 100

_DEFAULTS = JobOptions()


class HttpClient(AnyClient):
    """Submits jobs and finds them again through the HTTP service; needs neither Redis nor the database.

    Requests that are safe to repeat are sent again after a broken connection, a restart of the service, or when it
    asked to come back later; a submission never makes two jobs.

    Args:
        url: Where the service is, such as `http://host:8000`. Default: EMBEDMILL_URL.
        api_key: Its key. Default: EMBEDMILL_API_KEY; without one, none is sent.
        model: Model of jobs that name none. Default: EMBEDMILL_MODEL, else the service's own default.
        retry_for: Seconds for which such a request is tried again before its error is raised; a service that has
            never answered is given 5 s at most.
        settings: The first three of these at once, instead; none of them is named beside it.

    Raises:
        InvalidOption: When there is no url, or it is none, or something is named beside `settings`.
        Unauthorized: When the key cannot be one.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        model: str | None = None,
        retry_for: float = 60.0,
        settings: Settings | None = None,
    ) -> None:
        refuse_beside(settings, url=url, api_key=api_key, model=model)
        settings = settings or Settings.load(url=url, api_key=api_key, model=model)
        if settings.url is None:
            raise InvalidOption("There is no url of a service.", "Give one, or set EMBEDMILL_URL.")
        key = settings.api_key.get_secret_value() if settings.api_key is not None else None
        self._model = settings.model if "model" in settings.model_fields_set else None
        self._connection = Connection(settings.url, key, checked_number("retry_for", retry_for))

    def close(self) -> None:
        """Close the connections; jobs go on."""
        self._connection.close()

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
    ) -> HttpJob:
        """Submit texts; when this returns, every one of them is safe in the service's database.

        A small submission is one request; a larger one goes in parts of some MB, each of which is sent again where
        it was cut off. A submission that fails leaves nothing behind.

        Args:
            texts: Any iterable of strings, of any length; read once, in constant memory.
            ids: The callers' ids, one a text, each only once in the job.
            model: Name of the model. Default: the client's.
            revision: Commit hash, or its beginning. Default: the revision that is served.
            on_invalid: `refuse` accepts nothing if an item is invalid; `keep` makes it that item's error.
            idempotency_key: Submitting the same payload with the same key again returns the same job.
            priority: `bulk`, or `urgent` for a few texts that somebody waits for.
            expires_in: Seconds after which the job ends as `expired`. Default: never.
            keep_days: Days after its end that the job is kept. Default: as the key, else the service says.
            keep_texts_days: The same for its texts, which `retry` needs; 0: they go at the end. Default: as the key,
                else the service says.
            name: What a person calls the job.
            labels: Words of the caller's own, by their names, by which `jobs` finds it again.
            webhook: Address, `https://...`, that the service tells the job's end.
            **options: See `JobOptions`.

        Returns:
            The job's handle; its `notice` says when the job has to wait for something.

        Raises:
            InvalidItems: When items are invalid and `on_invalid` is `refuse`; nothing was accepted.
            InvalidOption: When an option is unknown or does not fit the model.
            UnknownModel: When no worker has ever served the model and it is not the default.
            IdempotencyConflict: When the key was used with another payload.
            QuotaExceeded: When the API key has used up what it may.
            TooLarge: When the service takes no submission of that size.
            ServiceUnavailable: When the service cannot be reached for long.
            StorageUnavailable: When the service's database cannot be reached for long; nothing was accepted.
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
        expires_in: float | None = None,
        keep_days: float | None = None,
        keep_texts_days: float | None = None,
        name: str | None = None,
        labels: dict[str, str] | None = None,
        webhook: str | None = None,
        options: JobOptions | None = None,
    ) -> HttpJob:
        """Submit what a reader yields; the same as `submit`, with places that a person can find again.

        Args:
            records: What was read.
            with_ids: Whether each has a caller's id.
            model: As for `submit`, as are all others.
            revision: See there.
            on_invalid: See there.
            idempotency_key: See there.
            priority: See there.
            expires_in: See there.
            keep_days: See there.
            keep_texts_days: See there.
            name: See there.
            labels: See there.
            webhook: See there.
            options: See there.
        """
        for word, value in (("model", model), ("revision", revision), ("webhook", webhook)):
            check_word(word, value)
        check_name(name)
        check_labels(labels)
        if on_invalid not in ("refuse", "keep"):
            raise InvalidOption(f"on_invalid must be refuse or keep, not {on_invalid!r}.")
        given = (options or JobOptions()).to_dict()
        asked = {option: value for option, value in given.items() if value != getattr(_DEFAULTS, option)}
        asked |= {"model": model or self._model, "revision": revision, "on_invalid": on_invalid}
        kept = Keeping(keep_days, keep_texts_days)
        asked |= {"keep_days": kept.days, "keep_texts_days": kept.texts_days, "expires_in": checked_life(expires_in)}
        asked |= {"priority": priority_named(priority).name.lower(), "name": name, "labels": labels}
        asked |= {"webhook": None if webhook is None else {"url": webhook}}
        told = Upload(self._connection, asked, idempotency_key, with_ids).run(records)
        return HttpJob(told["id"], self._connection, told.get("notice"))

    def job(self, job_id: str | UUID) -> HttpJob:
        """Return the handle of a job.

        Args:
            job_id: Its UUIDv7.

        Raises:
            UnknownJob: When there is none of that id, or it is another key's.
        """
        job = HttpJob(checked_job_id(job_id), self._connection)
        job.status()
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
        wanted = JobFilter(states=states, model=model, name=name, labels=labels, since=since, until=until)
        behind = checked_page(limit, before)
        found: list[JobStatus] = []
        while len(found) < limit:
            asked = {"limit": min(_LISTED, limit - len(found)), "before": behind} | _as_query(wanted)
            given = {field: value for field, value in asked.items() if value is not None}
            page = self._connection.told("GET", "/v1/jobs", PAGE, params=given)
            found += map(status_of, page["data"])
            behind = page["next"]
            if behind is None:
                break
        if not all(map(wanted.passes, found)):
            # It leaves out what it does not know: whoever cancels what was found would cancel another's.
            raise ServerError(
                "The service lists jobs that were not asked for: it is older than this client.",
                "Upgrade it, or ask for all jobs and choose among them.",
            )
        return found


def _as_query(wanted: JobFilter) -> dict[str, str | None]:
    """Return a filter as the service takes it."""
    return {
        "state": None if wanted.states is None else ",".join(wanted.states),
        "model": wanted.model,
        "name": wanted.name,
        "labels": json.dumps(dict(wanted.labels), ensure_ascii=False) if wanted.labels else None,
        "since": _told(wanted.since),
        "until": _told(wanted.until),
    }


def _told(moment: datetime | None) -> str | None:
    """Return a time in UTC: a zone of long ago is seconds away from it, which not everybody can read."""
    if moment is None:
        return None
    try:
        return moment.astimezone(UTC).isoformat()
    except OverflowError:  # hours before the first year, or after the last
        return (datetime.min if moment.year == 1 else datetime.max).replace(tzinfo=UTC).isoformat()
