"""The client as users know it: `Client(url)` asks a service over HTTP, any other asks storage itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload
from uuid import UUID

from producer.anyjob import AnyJob
from producer.records import RecordLike
from storage.contract.errors import InvalidOption
from storage.contract.options import JobOptions
from storage.contract.settings import Settings
from storage.jobstatus import JobStatus

# Whoever asks over HTTP shall not have to wait for SQLAlchemy, nor the other one for httpx: each is imported only
# when it is made.
if TYPE_CHECKING:
    from producer.client import Client
    from producer.remote.client import HttpClient


class AnyClient:
    """Submits jobs and finds them again; what is made is a `HttpClient` or a client over storage, by what is given.

    A place given as an argument counts more than one in the environment. Where no argument names a place,
    EMBEDMILL_URL counts more than EMBEDMILL_DATABASE_URL and EMBEDMILL_DATA_DIR; where nothing names one, the embedded
    database is meant.

    It has no code of its own but this choice, and is no abstract class only so that it can be called.

    Args:
        url: Where the HTTP service is, such as `http://host:8000`.
        api_key: Its key. Default: EMBEDMILL_API_KEY.
        retry_for: Seconds for which a request over HTTP is tried again.
        database_url: The database instead.
        redis_url: The Redis that belongs to it.
        data_dir: The folder of the embedded ones.
        model: Model of jobs that name none.
        settings: All of these but `retry_for` at once, instead; nothing is named beside them.

    Raises:
        InvalidOption: When both a service and a database are named, or something beside `settings`.
    """

    @overload
    def __new__(
        cls, url: str, *, api_key: str | None = None, model: str | None = None, retry_for: float = 60.0
    ) -> HttpClient: ...

    @overload
    def __new__(cls, *, database_url: str, redis_url: str | None = None, model: str | None = None) -> Client: ...

    @overload
    def __new__(
        cls,
        *,
        data_dir: str | Path,
        database_url: str | None = None,
        redis_url: str | None = None,
        model: str | None = None,
    ) -> Client: ...

    @overload
    def __new__(
        cls,
        url: None = None,
        *,
        api_key: str | None = None,
        database_url: str | None = None,
        redis_url: str | None = None,
        data_dir: str | Path | None = None,
        model: str | None = None,
        settings: Settings | None = None,
    ) -> AnyClient: ...

    def __new__(cls, url: str | None = None, **given: Any) -> AnyClient:
        """Make the client that what is given asks for."""
        return object.__new__(_kind(url, given) if cls is AnyClient else cls)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; jobs go on."""
        raise NotImplementedError

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
    ) -> AnyJob:
        """Submit texts; when this returns, every one of them is safe.

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

        Raises:
            InvalidItems: When items are invalid and `on_invalid` is `refuse`; nothing was accepted.
            InvalidOption: When an option is unknown or does not fit the model.
            UnknownModel: When no worker has ever served the model and it is not the default.
            IdempotencyConflict: When the key was used with another payload.
            ServerError: When the service, or the database, cannot be reached.
        """
        raise NotImplementedError

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
    ) -> AnyJob:
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
        raise NotImplementedError

    def job(self, job_id: str | UUID) -> AnyJob:
        """Return the handle of a job.

        Raises:
            UnknownJob: When there is none of that id.
        """
        raise NotImplementedError

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
        """Return where the newest jobs stand, newest first.

        Args:
            limit: At most so many.
            before: Only jobs made before the one of this id.
            states: Only those in one of these states: `accepting`, `queued`, `running`, `completed`, `failed`,
                `cancelled`, `expired`. Default: in any but `accepting`.
            model: Only those for this model.
            name: Only those of this name.
            labels: Only those that have all of these labels.
            since: Only those made then or later; a time with its zone.
            until: Only those made before; a time with its zone.

        Raises:
            UnknownJob: When `before` is no job id.
            InvalidOption: When a state is none, or a time has no zone.
        """
        raise NotImplementedError


#: What settings say, and may be given without them.
_IN_SETTINGS = ("api_key", "database_url", "redis_url", "data_dir", "model")


def refuse_beside(settings: Settings | None, **given: object) -> None:
    """Refuse what is given beside settings that say the same: one of the two would not count.

    Args:
        settings: What was given as such, or None.
        **given: What else was given, by its names.

    Raises:
        InvalidOption: When there are both.
    """
    both = [name for name, value in given.items() if value is not None]
    if settings is not None and both:
        raise InvalidOption(
            f"settings and {both[0]} were both given.",
            f"Leave one of them out, or load it: Settings.load({both[0]}=...).",
        )


def _kind(url: str | None, given: dict[str, Any]) -> type[AnyClient]:
    """Return the class of client that is asked for."""
    settings: Settings | None = given.get("settings")
    refuse_beside(settings, url=url, **{name: given.get(name) for name in _IN_SETTINGS})
    places = [name for name in ("database_url", "redis_url", "data_dir") if given.get(name) is not None]
    if url is not None and places:
        raise InvalidOption(f"url and {places[0]} were both given.", "Name a service, or a database.")
    if url is None and not places:
        url = (settings or Settings.load()).url
    if url is not None:
        from producer.remote.client import HttpClient

        return HttpClient
    for name in ("api_key", "retry_for"):
        if given.get(name) is not None:
            raise InvalidOption(f"{name} was given, but no url of a service.", "Give one, or set EMBEDMILL_URL.")
    from producer.client import Client

    return Client
