"""One submission: records in, a sealed job in storage out; or nothing at all.

Texts are written while they are read, into a job that nobody sees; sealing it is one small transaction at the end.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

from producer.intake import Intake
from producer.patience import of_sender
from producer.records import RecordLike
from storage import tracing
from storage.chunks import NewChunk
from storage.contract.durations import checked_life
from storage.contract.errors import (
    IdempotencyConflict,
    InvalidOption,
    QuotaExceeded,
    ServerError,
    StorageUnavailable,
    UnknownJob,
)
from storage.contract.keeping import Keeping
from storage.contract.labels import check_labels, check_name
from storage.contract.messages import Pointer
from storage.contract.models import ModelCard, Priority
from storage.contract.options import JobOptions, check_word
from storage.contract.states import JobState
from storage.jobrecords import JobRecord
from storage.newjobs import NewJob
from storage.stores import Stores

#: Pause between two write transactions, in seconds, in which other writers of a SQLite file get their turn.
_BREATH = 0.001

#: How long a database that did not answer the last step is asked whether it took it, in seconds.
_DOUBT = 20.0


class Submission:
    """Takes the records of one job.

    Args:
        stores: Where the job is kept.
        model: The model's name.
        revision: The revision asked for, or None.
        card: The model identity, or None while no worker has ever registered the model.
        options: The job's options.
        priority: Which queue it waits in.
        key_id: Whose job it is.
        with_ids: Whether every record must have a caller's id.
        on_invalid: `refuse` accepts nothing if an item is invalid; `keep` makes it that item's error.
        idempotency_key: Makes a second submission of the same payload return the first one's job.
        expires_in: Seconds after which the job ends, whatever is left to do; None: never.
        keep_days: Days after its end that the job is kept; None: as its key says, else as is usual.
        keep_texts_days: The same for its texts.
        usual: What is usual; default: for ever. Calls and batches are deleted by whoever made them.
        max_text_bytes: Longest text.
        kind: `job`, `call` or `batch`; see `NewJob`.
        name: What a person calls it, or None.
        labels: Words of the caller's own, or None.
        webhook: Address that the job's end is told to, as `checked_url` let it pass, or None.
        marking: Whether a small job marks what its queue's window has room for as sent; see `marked`.

    Raises:
        InvalidOption: When `on_invalid`, the key, the name or a time is not usable, or no call asks for states of
            tokens.
    """

    def __init__(
        self,
        stores: Stores,
        *,
        model: str,
        revision: str | None,
        card: ModelCard | None,
        options: JobOptions,
        priority: Priority = Priority.BULK,
        key_id: str = "",
        with_ids: bool = False,
        on_invalid: str = "refuse",
        idempotency_key: str | None = None,
        expires_in: float | None = None,
        keep_days: float | None = None,
        keep_texts_days: float | None = None,
        usual: Keeping | None = None,
        max_text_bytes: int = 1_000_000,
        kind: str = "job",
        name: str | None = None,
        labels: dict[str, str] | None = None,
        webhook: str | None = None,
        marking: bool = False,
    ) -> None:
        if on_invalid not in ("refuse", "keep"):
            raise InvalidOption(f"on_invalid must be refuse or keep, not {on_invalid!r}.")
        if kind != "call":
            options.check_pooled()
        check_word("idempotency_key", idempotency_key)
        if idempotency_key is not None and not 0 < len(idempotency_key) <= 255:
            raise InvalidOption("An idempotency key has 1 to 255 characters.")
        expires_in, kept = checked_life(expires_in), Keeping(keep_days, keep_texts_days)
        self._stores = stores
        model_id, known = (card.id, card.revision) if card is not None else (None, revision)
        check_name(name)
        check_labels(labels)
        self._job = NewJob(
            tracing.new_job_id(stores.database.clock.now()),
            model,
            known,
            model_id,
            options.kept_for(card).to_dict(),
            priority,
            with_ids,
            key_id,
            expires_in,
            kind,
            name,
            labels,
            webhook,
            _keeping(stores, kind, key_id, usual or Keeping(), kept),
        )
        #: What is marked as sent once the job is accepted, and must then be sent; None: nothing was marked.
        self.marked: list[Pointer] | None = None
        self._marking = marking
        self._on_invalid = on_invalid
        self._key = idempotency_key
        words = {"revision": revision, "expires_in": expires_in, "name": name, "labels": labels}
        words |= {"keep_days": kept.days, "keep_texts_days": kept.texts_days}
        self._hash = _payload_hash(model, options, priority, on_invalid, with_ids, words)
        self._intake = Intake(
            self._write,
            lambda custom_id: stores.results.find(self._job.id, custom_id) is not None,
            with_ids=with_ids,
            keep=on_invalid == "keep",
            max_text_bytes=max_text_bytes,
            hash=self._hash if idempotency_key is not None else None,
        )
        self._replay: JobRecord | None = None
        self._created = False

    @property
    def job_id(self) -> str:
        """The id of the job, unless `run` finds that an earlier one is the same."""
        return self._job.id

    def run(self, records: Iterable[RecordLike]) -> str:
        """Read all records and seal the job.

        Args:
            records: Any number; read once, in constant memory.

        Returns:
            The id of the sealed job, or of the one that had this idempotency key and payload before.

        Raises:
            InvalidItems: When items are invalid and `on_invalid` is `refuse`; every record was read and judged.
            IdempotencyConflict: When the key was used with another payload.
            QuotaExceeded: When its API key may not have it; where it may later, after the sender's patience.
            StorageUnavailable: When the database cannot be reached; nothing was accepted.
        """
        begin = time.time_ns()
        if self._key is not None:
            self._replay = self._stores.jobs.find_by_key(self._key, self._job.key_id)
        with contextlib.suppress(ServerError):
            self._stores.purges.discard_given_up()
        try:
            self._intake.take(records)
            job_id = self._seal()
            self._trace(begin)
            return job_id
        except BaseException:
            # Ctrl-C too: an unsealed job would otherwise lie about until the reconciler finds it.
            with contextlib.suppress(ServerError):
                self._discard()
            raise

    def _write(self, chunks: list[NewChunk]) -> None:
        if self._replay is not None:
            return
        if not self._created:
            self._created = self._stores.jobs.create(self._job)
        else:
            time.sleep(_BREATH)
        self._stores.chunks.append(self._job.id, chunks)

    def open(self) -> str:
        """Open a job that takes its texts in parts.

        Returns:
            Its id, or that of the one that had this idempotency key before.

        Raises:
            IdempotencyConflict: When the key was used for something else.
        """
        begin = time.time_ns()
        self._hash.update(b"parts")
        payload = self._hash.hexdigest() if self._key is not None else None
        if self._stores.parts.open(self._job, self._on_invalid, payload, self._key):
            self._trace(begin)
            return self._job.id
        self._replay = self._stores.jobs.find_by_key(self._key or "", self._job.key_id)
        return self._replayed(payload)

    def _trace(self, begin: int) -> None:
        if tracing.spans is not None and self._replay is None:
            counts = {"texts": self._intake.items, "chunks": self._intake.chunks}
            asked = {"model": self._job.model, "kind": self._job.kind, "priority": self._job.priority.name.lower()}
            tracing.spans.submitted(self._job.id, begin, **asked, **counts)

    def _seal(self) -> str:
        rest = self._intake.finish()
        payload = self._hash.hexdigest() if self._key is not None else None
        if self._replay is None:
            if self._accepted(rest, payload):
                return self._job.id
            # Another submission with the same key was sealed a moment before.
            self._discard()
            self._replay = self._stores.jobs.find_by_key(self._key or "", self._job.key_id)
        return self._replayed(payload)

    def _replayed(self, payload: str | None) -> str:
        if self._replay is None or self._replay.payload_hash != payload:
            raise IdempotencyConflict(
                "This idempotency key was used before, for other texts or options.", "Use a new key for a new job."
            )
        return self._replay.id

    def _accepted(self, rest: list[NewChunk], payload: str | None) -> bool:
        """Seal the job; where the answer is lost, ask whether it was done: what is accepted must not be called lost."""
        try:
            if not self._created:
                marked = self._stores.jobs.accept(self._job, rest, payload, self._key, self._marking)
                self.marked = marked if self._marking else None
                return marked is not None
            if rest:
                self._write(rest)
            return self._sealed(payload)
        except StorageUnavailable as error:
            if error.begun and self._was_accepted(error):
                return True
            raise

    def _sealed(self, payload: str | None) -> bool:
        """Seal the job; while its key may not yet have it, wait with all that was sent, and try again.

        That is while it owes tokens, or has come to have too many open jobs meanwhile.
        """
        patience = of_sender.get()
        while True:
            try:
                return self._stores.jobs.seal(self._job.id, self._intake.items, self._intake.chunks, payload, self._key)
            except QuotaExceeded as error:
                if patience is None or not patience.outlasts(error.retry_after):
                    raise

    def _was_accepted(self, error: StorageUnavailable) -> bool:
        """Find out by writes, which wait for a COMMIT that is still under way: a look might come too early.

        Whoever takes an id second waits for the first; a job that is open then is the one just made, or never sealed.

        Raises:
            StorageUnavailable: When the database cannot be reached for long, so that nobody knows.
        """
        deadline = time.monotonic() + _DOUBT
        while time.monotonic() < deadline:
            with contextlib.suppress(ServerError):
                self._stores.jobs.create(self._job)
                if self._stores.purges.discard(self._job.id):
                    self._created = False
                    return False
                with contextlib.suppress(UnknownJob):
                    return self._stores.jobs.get(self._job.id).state != JobState.ACCEPTING
                return False
            time.sleep(0.5)
        raise StorageUnavailable(
            f"Whether job {self._job.id} was accepted is not known: {error.message}",
            f"Look when the database is back: embedmill status {self._job.id}. With an idempotency key, submitting"
            " again is safe.",
        ) from error

    def _discard(self) -> None:
        if self._created:
            self._created = False
            self._stores.purges.give_up(self._job.id)


def _keeping(stores: Stores, kind: str, key_id: str, usual: Keeping, asked: Keeping) -> Keeping:
    return usual.asked(asked.days, asked.texts_days, stores.keys.keeping(key_id)) if kind == "job" else Keeping()


def _payload_hash(
    model: str, options: JobOptions, priority: Priority, on_invalid: str, with_ids: bool, words: dict[str, Any]
) -> blake2b:
    asked = {"model": model, "options": options.to_dict(), "priority": int(priority), "on_invalid": on_invalid}
    asked |= {"ids": with_ids} | {name: value for name, value in words.items() if value not in (None, "", {})}
    return blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=32)
