"""Calls: texts in, vectors out, in one request; each is a small urgent job that goes when it was answered."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from starlette.requests import Request

from producer.api.auth import Caller
from producer.api.called import MEND_INPUTS, Called, CalledStates, states_of, vectors_of
from producer.api.callline import Line, Place
from producer.api.shares import Shares
from producer.api.waiting import Waiting
from producer.client import Client
from producer.job import Job
from producer.records import Record
from storage.contract.errors import (
    CallerGone,
    InvalidItems,
    ModelUnavailable,
    QueueUnavailable,
    ServerError,
    UnknownModel,
    WaitTimeout,
)
from storage.contract.options import JobOptions, check_word
from storage.contract.states import JobState

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

#: Seconds that a call's job lives longer than anybody waits for it.
_AFTERLIFE = 30

#: Seconds after which a call may be sent again that found no room.
_RETRY = 1

#: Seconds after which a call may be sent again that found no worker: one that is started for it must load its model.
_COMING = 30

#: Longest wait of a call that Redis took no message of, in seconds: it may be back in a moment, or not. As often it is
#: looked whether that holds of a call whose message was left to others to be sent.
_UNSENT = 10.0

#: Seconds beyond the longest wait in which its vectors are read, or it is found out why there are none.
_GRACE = 5.0

#: How often those who wait look whether they will be served, in seconds; and lines that are remembered.
_LOOK, _LINES = 1.0, 64

#: Letters of a token, and tokens that every text costs, for an estimate.
_LETTERS, _EACH = 4, 8

#: Calls' jobs that are deleted in one transaction.
_DROPPED_AT_ONCE = 100

_AWAY = "Submit a job, which waits, or try again later."


class Calls:
    """Does the calls of all dialects; nobody waits in a thread.

    Args:
        client: Submits the jobs.
        waiting: Tells when they end.
        limit: Most calls at a time.
        timeout: Longest wait of a call, in seconds.
    """

    def __init__(self, client: Client, waiting: Waiting, limit: int, timeout: float) -> None:
        self._client = client
        self._waiting = waiting
        self._places = Shares(
            limit, ("As many calls as may are waiting already.", "Send it again in a moment.", _RETRY)
        )
        self._timeout = timeout
        self._lines: dict[str, Line] = {}
        self._dropped: list[str] = []
        self._dropping: asyncio.Task[None] | None = None

    async def embed(
        self,
        request: Request,
        caller: Caller,
        texts: Sequence[object],
        *,
        model: str | None = None,
        revision: str | None = None,
        options: JobOptions | None = None,
    ) -> Called:
        """Embed a few texts while somebody waits; the request's body must have been read.

        Args:
            request: Ends the call when its sender goes away.
            caller: Who asks.
            texts: Whatever was sent as texts; it is judged here.
            model: As for `Client.submit`.
            revision: See there.
            options: See there.

        Raises:
            InvalidItems: When inputs are invalid, or could not be embedded.
            InvalidOption: When an option is not allowed, or does not fit the model.
            UnknownModel: When no worker has ever served the model.
            ModelUnavailable: When no worker serves it now.
            QueueUnavailable: When Redis does not take messages, so that no worker hears of it.
            Overloaded: When too many calls wait already.
            WaitTimeout: When the vectors were not there in time, which begins when the call comes.
            CallerGone: When nobody waits for the answer any more.
        """
        options = options or JobOptions()
        options.check_pooled()
        return await self._call(vectors_of, request, caller, texts, model, revision, options)

    async def states(
        self, request: Request, caller: Caller, texts: Sequence[object], options: JobOptions
    ) -> CalledStates:
        """Return the states of all tokens of a few texts by the service's own model; see `embed`.

        Args:
            request: See there.
            caller: See there.
            texts: See there.
            options: Without pooling.
        """
        return await self._call(states_of, request, caller, texts, None, None, options)

    async def _call(
        self,
        read: Callable[[Job, int], _Result],
        request: Request,
        caller: Caller,
        texts: Sequence[object],
        model: str | None,
        revision: str | None,
        options: JobOptions,
    ) -> _Result:
        with self._places.place(caller.key_id):
            check_word("model", model)
            line = self._line(self._client.named(model))
            place, done = line.join(_work(texts)), False
            try:
                # Every step is done in a thread, and waits for one where all of them wait for a server that hangs.
                async with asyncio.timeout(self._timeout + _GRACE):
                    job = await asyncio.to_thread(self._submit, caller, texts, model, revision, options)
                    try:
                        await self._until_ended(request, job, line, place)
                        done = True
                        return await asyncio.to_thread(read, job, len(texts))
                    finally:
                        self._drop(job.id)
            except TimeoutError:
                raise self._late() from None
            finally:
                line.leave(place, done)

    def _line(self, model: str) -> Line:
        """Return the line of a model: each has workers of its own, and so a pace of its own."""
        if model not in self._lines and len(self._lines) >= _LINES:
            # Names are whatever callers write.
            self._lines = {name: line for name, line in self._lines.items() if len(line)}
        return self._lines.setdefault(model, Line(self._timeout))

    async def close(self) -> None:
        """Wait until the jobs of answered calls are deleted."""
        if self._dropping is not None:
            await self._dropping

    def _submit(
        self, caller: Caller, texts: Sequence[object], model: str | None, revision: str | None, options: JobOptions
    ) -> Job:
        check_word("revision", revision)
        name = self._client.named(model)
        served = self._client.served.find(name, revision)
        if not served and revision is not None and self._client.stores.workers.find(name):
            raise UnknownModel(
                f"No worker has ever served {name} at this revision.", "Leave it out for the one served."
            )
        if served:
            self._want(served[0].card.id)
        # A model that nobody has ever served is refused on submission, in its own words.
        if not any(one.workers for one in served) and (served or name == self._client.named(None)):
            raise ModelUnavailable(f"No worker serves {name} now.", _AWAY, _COMING)
        try:
            return self._client.submit_records(
                [Record(text, None, f"input {place}") for place, text in enumerate(texts)],
                with_ids=False,
                model=name,
                revision=revision,
                priority="urgent",
                key_id=caller.key_id,
                # Whatever becomes of this process, the job ends by itself and is then deleted by the reconciler.
                expires_in=self._timeout + _AFTERLIFE,
                kind="call",
                options=options,
            )
        except InvalidItems as error:
            raise InvalidItems(error.problems, error.count, MEND_INPUTS) from None

    def _want(self, model_id: str) -> None:
        """Note for autoscalers that a model is called; a call is done, or refused, without that too."""
        try:
            self._client.stores.wanted.note(model_id)
        except ServerError as error:
            logger.warning("an autoscaler is not told of calls: %s", error)

    async def _until_ended(self, request: Request, job: Job, line: Line, place: Place) -> None:
        timeout = self._timeout if job.notice is None else min(self._timeout, _UNSENT)
        asked, until = place.since, place.since + timeout
        ended = asyncio.ensure_future(self._waiting.until_ended(job.id, until - time.monotonic()))
        gone = asyncio.ensure_future(_gone(request))
        news: set[asyncio.Future[Any]] = {ended, gone, place.refused}
        try:
            while not any(one.done() for one in news):
                # Also while nothing ends: it shows in time that those behind will not be served.
                line.review()
                await asyncio.wait(news, timeout=_LOOK, return_when=asyncio.FIRST_COMPLETED)
                if time.monotonic() - asked >= _UNSENT and not ended.done():
                    asked = time.monotonic()
                    await asyncio.to_thread(self._blame_redis, job)
            if not ended.done():
                raise CallerGone("Whoever asked went away.") if gone.done() else place.refused.result()
            if not ended.result():
                await asyncio.to_thread(self._blame_workers, job)
                if job.notice is not None:
                    raise _unheard()
                # Workers that did others' calls meanwhile are there, and have too much to do.
                raise line.overtaken(place) or self._late()
        finally:
            ended.cancel()
            gone.cancel()

    def _blame_redis(self, job: Job) -> None:
        """Raise where no worker can have heard of a call: its window was full of messages that never went out."""
        if not self._client.redis_answers() and job.record().state == JobState.QUEUED:
            self._blame_workers(job)
            raise _unheard()

    def _blame_workers(self, job: Job) -> None:
        """Raise where a call was not done because the last worker of its model went away meanwhile."""
        status = job.status()
        if status.waiting_for:
            raise ModelUnavailable(f"No worker serves {status.model} any more.", _AWAY, _COMING)

    def _late(self) -> WaitTimeout:
        return WaitTimeout(
            f"The vectors were not there within {self._timeout:g} s.", "Send fewer texts, or submit a job."
        )

    def _drop(self, job_id: str) -> None:
        """Have a job deleted, with others, while the answer is already on its way; works in the event loop."""
        self._dropped.append(job_id)
        if self._dropping is None or self._dropping.done():
            self._dropping = asyncio.get_running_loop().create_task(self._drop_all())

    async def _drop_all(self) -> None:
        while self._dropped:
            some, self._dropped = self._dropped[:_DROPPED_AT_ONCE], self._dropped[_DROPPED_AT_ONCE:]
            try:
                await asyncio.to_thread(self._client.stores.purges.drop_calls, some)
            except ServerError as error:
                logger.warning("%d answered calls are left to the reconciler: %s", len(some), error)


def _unheard() -> QueueUnavailable:
    return QueueUnavailable("Redis takes no messages now: no worker heard of this call.", _AWAY)


def _work(texts: Sequence[object]) -> float:
    """Return about how many tokens a call is."""
    return sum(len(text) / _LETTERS for text in texts if isinstance(text, str)) + _EACH * len(texts)


async def _gone(request: Request) -> None:
    """Wait until the sender of a request whose body was read goes away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
