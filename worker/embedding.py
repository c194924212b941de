"""One message's work: claim -> embed -> commit. Knows neither Celery nor torch."""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from storage import counters, logs
from storage.attempts import AttemptKey, Claim
from storage.contract import failpoints
from storage.contract.errors import InvalidOption, ServerError
from storage.contract.messages import Pointer
from storage.contract.models import Priority
from storage.contract.options import NO_POOLING, JobOptions
from storage.outcomes import ItemError
from storage.results import ChunkResult
from storage.stores import Stores
from worker import delays, measures, tracks
from worker.chunkresults import chunk_result, sent, unsettled
from worker.enginelike import EngineLike
from worker.pace import Pace
from worker.solitude import Solitude

logger = logging.getLogger(__name__)

#: How long vectors are held while the database does not answer, in seconds; then the lease runs out.
_COMMIT_PATIENCE = 45.0

#: A chunk whose attempts failed so often for reasons nobody foresaw is given up: its items get that error.
_ATTEMPTS = 10

#: A text that every engine can embed.
PROBE = "word"


class Embedding:
    """Does what messages ask for, for one worker process.

    Args:
        stores: Where chunks come from and results go.
        engine: Texts in, vectors out; shared by all task threads.
        worker_id: The id of this start of the process.
        committed: Called after each commit with the jobs that ended with it.
        send_next: Called after each message, to fill the free window.
        broken: Called when the engine will not recover in this process; what it holds is charged to the chunks.
    """

    def __init__(
        self,
        stores: Stores,
        engine: EngineLike,
        worker_id: str,
        committed: Callable[[list[str]], None],
        send_next: Callable[[], None],
        broken: Callable[[], None],
    ) -> None:
        self._stores = stores
        self._engine = engine
        self._worker_id = worker_id
        self._committed = committed
        self._send_next = send_next
        self._broken = broken
        self._pace = Pace()
        self._solitude = Solitude()
        self._counting = threading.Lock()
        self._running = 0
        self._held: set[AttemptKey] = set()
        self._idle_since = time.monotonic()

    def idle_for(self) -> float:
        """Return for how many seconds there has been nothing to do."""
        with self._counting:
            return 0.0 if self._running else time.monotonic() - self._idle_since

    def held(self) -> list[AttemptKey]:
        """Return the attempts that are being worked on: those whose leases are to be extended."""
        with self._counting:
            return list(self._held)

    def run(self, pointer: Pointer) -> None:
        """Claim the chunk a message points to and more of its kind, embed them and commit them in one transaction.

        Returns without doing anything when the chunk is not to be had: done, cancelled, somebody else's, unknown.
        """
        with self._counting:
            self._running += 1
        try:
            named = logs.about(job_id=pointer.job_id, chunk=pointer.chunk)
            with named, tracks.following(self._worker_id, self._engine.card.name):
                self._answer(pointer)
        finally:
            with self._counting:
                self._running -= 1
                self._idle_since = time.monotonic()

    def _answer(self, pointer: Pointer) -> None:
        failpoints.reach("message.taken")
        # Nobody holds a lease while waiting for his turn: a death is charged to what was embedded, and to nothing else.
        with self._solitude.held(alone=False):
            claims = self._claim(pointer)
            suspect = bool(claims) and claims[0].alone
            if suspect:
                self._release(claims, 0)
            elif claims:
                self._attempt(claims)
        if suspect:
            with self._solitude.held(alone=True):
                # Before anything is leased: a sick engine shows itself here, and charges nothing to the suspect.
                claims = self._claim(pointer) if self._engine_works() else []
                if claims:
                    self._attempt(claims)
        if claims:
            self._send_next()
            failpoints.reach("ack")

    def _claim(self, pointer: Pointer) -> list[Claim]:
        card = self._engine.card
        try:
            with measures.here.taking("claim"):
                claims = self._stores.leases.claim(pointer, self._worker_id, card.id, self._pace.room())
        except ServerError as error:
            # The message is spent, its chunk not: the reconciler sends it again when the database is back.
            logger.warning("could not claim: %s", error)
            time.sleep(random.random())
            return []
        tracks.claimed(claims)
        if not claims:
            counters.count("messages_dropped")
            logger.debug("dropped a message: its chunk is not to be had")
        return claims

    def _attempt(self, claims: Sequence[Claim]) -> None:
        first = claims[0]
        named = {"job_id": first.job_id, "chunk": first.number, "token": first.token, "chunks": len(claims)}
        with logs.about(**named), self._holding(claims):
            try:
                self._work(claims)
            except ServerError as error:
                tracks.event(claims, "failed", kind=error.code)
                if error.code == "engine_failed":
                    # The end of this process charges what it holds; a release would let the culprit go unseen.
                    logger.error("%s", error)
                    self._broken()
                stopped = error.code == "engine_stopped"
                logger.log(logging.INFO if stopped else logging.WARNING, "gave back %d chunks: %s", len(claims), error)
                self._release(claims, 0 if stopped else delays.without_server())
            except Exception as error:
                tracks.event(claims, "failed", kind=type(error).__name__)
                logger.exception("an unexpected error in %d chunks", len(claims))
                if len(claims) == 1:
                    self._note_failure(claims[0])
                else:
                    # One of them is to blame: each has a try of its own, and waits for itself alone.
                    for claim in claims:
                        self._attempt([claim])

    def _engine_works(self) -> bool:
        try:
            self._engine.embed([PROBE], JobOptions())
        except ServerError as error:
            logger.error("the engine fails on any text: %s", error)
            if error.code == "engine_failed":
                self._broken()
            return False
        return True

    @contextmanager
    def _holding(self, claims: Sequence[Claim]) -> Iterator[None]:
        """Have the leases extended meanwhile; one that could not be given back then runs out by itself."""
        keys = {claim.key for claim in claims}
        with self._counting:
            self._held |= keys
        try:
            yield
        finally:
            with self._counting:
                self._held -= keys

    def _release(self, claims: Sequence[Claim], delay: int, failed: bool = False) -> None:
        tracks.event(claims, "lease given back")
        try:
            self._stores.leases.release(claims, delay, failed)
        except ServerError as error:
            logger.warning("could not give chunks back, their leases run out: %s", error)

    def _note_failure(self, claim: Claim) -> None:
        """Try a chunk again later, or, after many tries, end it: an error, which `retry` can try anew."""
        if claim.failures + 1 < _ATTEMPTS:
            self._release([claim], delays.after(claim.failures + 1), failed=True)
            return
        error = ItemError("unexpected", f"Embedding it failed {_ATTEMPTS} times for an unknown reason; see the logs.")
        try:
            self._committed(self._stores.leases.give_up([claim], error))
        except Exception:
            logger.exception("chunk %d of job %s could not be given up", claim.number, claim.job_id)
            self._release([claim], delays.LONGEST)

    def _work(self, claims: Sequence[Claim]) -> None:
        results: list[tuple[Claim, ChunkResult]] = []
        with self._pace.measuring() as measure:
            for group in _grouped(claims):
                found = self._embed(group)
                measure.tokens += sum(int(result.tokens.sum()) for _, result in found)
                if group[0].options.get("pooling") == NO_POOLING:
                    # As large as hundreds of chunks' vectors: never held together with others.
                    self._deliver(found)
                else:
                    results += found
        self._deliver(results)

    def _deliver(self, results: Sequence[tuple[Claim, ChunkResult]]) -> None:
        if not results:
            return
        written, finished = self._commit(results)
        tracks.committed([claim for claim, _ in results], written)
        late = len(results) - len(written)
        if late:
            logger.warning("dropped %d late results: their chunks were cancelled or taken over", late)
        logger.debug("committed %d chunks", len(written))
        _measure([result for claim, result in results if claim.key in written])
        self._committed(finished)

    def _embed(self, claims: Sequence[Claim]) -> list[tuple[Claim, ChunkResult]]:
        """Embed chunks that have the same options, as one call."""
        with tracks.of(claims):
            return self._embedded(claims)

    def _embedded(self, claims: Sequence[Claim]) -> list[tuple[Claim, ChunkResult]]:
        try:
            options = JobOptions.from_dict(claims[0].options)
            options.check_against(self._engine.card)
        except InvalidOption as error:
            for job_id in {claim.job_id for claim in claims}:
                logger.warning("job %s cannot be done: %s", job_id, error)
                self._stores.jobs.fail(job_id, error)
                self._committed([job_id])
            return []
        with measures.here.taking("read"):
            found = self._stores.leases.inputs(claims)
        todo = [unsettled(chunk) for _, chunk in found]
        given = [sent(chunk, places, options) for (_, chunk), places in zip(found, todo, strict=True)]
        texts = [chunk.texts[i] for (_, chunk), places in zip(found, given, strict=True) for i in places]
        urgent = claims[0].priority == Priority.URGENT
        failpoints.reach("embed.begin")
        embedded = self._engine.embed(texts, options, urgent)
        failpoints.reach("embed.end")
        results, start = [], 0
        for (claim, chunk), places, own in zip(found, todo, given, strict=True):
            results.append((claim, chunk_result(chunk, places, own, embedded, start, options)))
            start += len(own)
        return results

    def _commit(self, results: Sequence[tuple[Claim, ChunkResult]]) -> tuple[set[AttemptKey], list[str]]:
        """Commit, waiting for a database that is away; vectors are dear, a transaction is cheap."""
        deadline, pause = time.monotonic() + _COMMIT_PATIENCE, 0.2
        while True:
            try:
                with measures.here.taking("write"):
                    return self._stores.leases.commit(results)
            except ServerError as error:
                if time.monotonic() + pause > deadline:
                    raise
                logger.warning("commit waits for the database: %s", error)
                time.sleep(pause)
                pause = min(5.0, pause * 2)


def _measure(results: Sequence[ChunkResult]) -> None:
    measures.here.count(
        worker_chunks=len(results),
        worker_texts=sum(result.succeeded for result in results),
        worker_texts_failed=sum(len(result.errors) for result in results),
        worker_tokens=sum(int(result.tokens.sum()) for result in results),
    )


def _grouped(claims: Sequence[Claim]) -> list[list[Claim]]:
    """Return claims that are embedded as one call: those with the same options; each alone where that is asked for."""
    groups: dict[str, list[Claim]] = defaultdict(list)
    for claim in claims:
        alone = claim.options.get("pooling") == NO_POOLING or claim.options.get("deterministic")
        own = f" {claim.key}" if alone else ""
        groups[json.dumps(claim.options, sort_keys=True) + own].append(claim)
    return list(groups.values())
