"""Works at batches in the background: one thread in each process that serves, and one process at each batch.

Whatever it does may be cut off at any point: who takes the batch up again does the same steps anew, and the idempotency
keys of the jobs and the guarded last step of the batch see to it that nothing is there twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator

from producer.api.openai import batchoutput
from producer.api.openai.batchjobs import cancel_job, job_key, remove_job, remove_jobs, remove_unnoted_job
from producer.api.openai.batchplan import Plan, plan, records
from producer.api.openai.batchturns import Turns
from producer.api.settings import ApiSettings
from producer.client import Client
from storage.batches import FINAL
from storage.batchrecords import Batch
from storage.contract.errors import (
    AccessError,
    CallerError,
    EmbedmillError,
    IdempotencyConflict,
    LimitError,
    QuotaExceeded,
    ServerError,
    UnknownModel,
)
from storage.contract.ids import new_id
from storage.contract.models import ModelCard, model_name
from storage.files import StoredFile
from storage.quotas import check_room

logger = logging.getLogger(__name__)

#: Pause between two looks while a batch is under way, and while none is, in seconds: a new one wakes its process.
_LOOK, _REST = 0.5, 2.0

#: Pause between two looks for files that should go, in seconds.
_SWEEP = 60.0

#: A lease is renewed when it is so old, in seconds.
_RENEW = 5.0

#: A batch that fails for a reason nobody foresaw is tried so often.
_TRIES = 5


class BatchWork:
    """Takes batches from one state to the next.

    Args:
        client: Submits the jobs.
        settings: Say what is too large.
    """

    def __init__(self, client: Client, settings: ApiSettings) -> None:
        self._client = client
        self._stores = client.stores
        self._settings = settings
        self._owner = new_id()
        self._renewed = self._swept = 0.0
        self._woken = threading.Event()
        self._turns = Turns(self._stores.batches)
        self._stumbled: Counter[str] = Counter()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Look for a new batch now."""
        self._woken.set()

    def stop(self) -> None:
        """End; a batch under way is given back."""
        self._stopping = True
        self._woken.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stopping:
            under_way = True
            try:
                under_way = self.look()
            except EmbedmillError as error:
                logger.warning("batches wait: %s", error.code)
            except Exception as error:
                # The exception itself may hold a text.
                logger.error("the work at batches was cut short: %s", type(error).__name__)
            self._woken.wait(_LOOK if under_way else _REST)
            self._woken.clear()

    def look(self) -> bool:
        """Do what can be done for every batch now; return whether there was one that nobody else works at."""
        for batch in self._turns.round():
            if self._stopping:
                return True
            if self._stores.batches.claim(batch.id, self._owner):
                self._renewed = time.monotonic()
                try:
                    self._attempt(self._stores.batches.get(batch.id))
                finally:
                    self._stores.batches.release(batch.id, self._owner)
        for batch_id in self._stores.batches.ended():
            self._clean(batch_id)
        if time.monotonic() - self._swept >= _SWEEP:
            self._swept = time.monotonic()
            self._stores.files.sweep()
        return self._turns.are_left

    def _attempt(self, batch: Batch) -> None:
        """Do the next step of a batch; what only has to wait is tried again, and no batch keeps others from theirs."""
        try:
            self._step(batch)
            self._stumbled.pop(batch.id, None)
            self._turns.forget(batch.id)
        except LimitError as error:
            if isinstance(error, QuotaExceeded) and error.retry_after is None:
                # No time helps: OpenAI fails such a batch under this code too, and its clients know it.
                self._fail(batch, "token_limit_exceeded", str(error))
                return
            # Its whole file is read at each try.
            self._turns.wait(batch.id, error.retry_after or 0.0)
            logger.warning("batch %s waits: %s", batch.id, error.code)
        except ServerError as error:
            logger.warning("batch %s waits: %s", batch.id, error.code)
        except _GivenBack:
            pass
        except (CallerError, AccessError) as error:
            self._fail(batch, error.code, str(error))
        except Exception as error:
            # The exception itself may hold a text.
            logger.error("batch %s was cut short: %s", batch.id, type(error).__name__)
            self._stumbled[batch.id] += 1
            if self._stumbled[batch.id] >= _TRIES:
                self._fail(batch, "internal_error", "Something went wrong inside. The service's log says where.")

    def _step(self, batch: Batch) -> None:
        if batch.state == "validating":
            self._begin(batch)
        elif batch.state == "in_progress":
            self._end(batch)
        else:
            self._finish(batch)

    def _fail(self, batch: Batch, code: str, message: str) -> None:
        told = {"data": [{"code": code, "line": None, "message": message, "param": None}]}
        self._stores.batches.move(batch.id, self._owner, "failed", errors=told)
        self._stumbled.pop(batch.id, None)

    def _begin(self, batch: Batch) -> None:
        if batch.cancelling_at is None:
            check_room(self._stores.database, batch.key_id)
        made = self._plan(batch)
        if made.errors:
            self._stores.batches.move(batch.id, self._owner, "failed", errors={"data": made.errors, "more": made.more})
            return
        earlier = self._stores.batches.groups(batch.id)
        if beyond := earlier[len(made.groups) :]:
            # The lines were told apart otherwise by a version, or under settings, that were here before.
            self._make_sure(batch.id)
            remove_jobs(self._stores, batch, beyond)
        if not self._stores.batches.keep_lines(batch.id, self._owner, made.lines, made.groups):
            raise _GivenBack
        # What is cancelled before it began is written as such, with no job at all.
        if self._stores.batches.get(batch.id).cancelling_at is None:
            for group in made.groups:
                self._note_job(batch.id, group.number, self._job(batch, made, group.number))
        else:
            # Those of a try that was refused in its midst.
            remove_jobs(self._stores, batch, earlier)
        names = {group.model for group in made.groups}
        model = names.pop() if len(names) == 1 else None
        self._stores.batches.move(batch.id, self._owner, "in_progress", model=model)
        self.wake()

    def _note_job(self, batch_id: str, group: int, job_id: str) -> None:
        noted = self._stores.batches.set_job(batch_id, group, job_id)
        if not noted and self._stores.batches.get(batch_id).state in FINAL:
            # Another has brought the batch to its end meanwhile, and nobody would ever see to this job.
            remove_job(self._stores, job_id)
            raise _GivenBack

    def _plan(self, batch: Batch) -> Plan:
        file = self._stores.files.get(batch.input_file_id)
        blocks = self._stores.files.content(file)
        return plan(
            blocks,
            model_name(self._settings.model),
            self._find,
            self._settings.max_batch_lines,
            lambda: self._keep(batch.id),
        )

    def _find(self, name: str, revision: str | None) -> ModelCard | None:
        served = self._stores.workers.find(name, revision)
        if served:
            return served[0].card
        if name != model_name(self._settings.model):
            raise UnknownModel("No worker has ever served this model.", "GET /v1/models lists those that are known.")
        return None

    def _job(self, batch: Batch, made: Plan, group: int) -> str:
        try:
            return self._submit(batch, made, group)
        except IdempotencyConflict:
            # An earlier try, of a version with other defaults, has made a job of other options: nobody waits for it.
            self._make_sure(batch.id)
            remove_unnoted_job(self._stores, batch, group)
            return self._submit(batch, made, group)

    def _make_sure(self, batch_id: str) -> None:
        """Make sure that nobody else has gone on with a batch, before a job of it is taken away."""
        is_ours = self._stores.batches.claim(batch_id, self._owner)
        if not is_ours or self._stores.batches.get(batch_id).state != "validating":
            raise _GivenBack

    def _submit(self, batch: Batch, made: Plan, group: int) -> str:
        file = self._stores.files.get(batch.input_file_id)
        model, revision, options = made.asked[group]
        self._keep(batch.id)
        job = self._client.submit_records(
            records(self._watched(batch.id, file), made, group),
            with_ids=False,
            model=model,
            revision=revision,
            on_invalid="keep",
            idempotency_key=job_key(batch.id, group),
            key_id=batch.key_id,
            # The window from now on: should nobody see to the batch, its jobs end all the same.
            expires_in=_seconds(batch.completion_window),
            kind="batch",
            options=options,
        )
        return job.id

    def _watched(self, batch_id: str, file: StoredFile) -> Iterator[bytes]:
        for block in self._stores.files.content(file):
            self._keep(batch_id)
            yield block

    def _end(self, batch: Batch) -> None:
        """End jobs that should not go on; when all have ended, write what came of them."""
        jobs = [group.job_id for group in self._stores.batches.groups(batch.id) if group.job_id is not None]
        if batch.is_over or batch.cancelling_at is not None:
            for job_id in jobs:
                cancel_job(self._stores, job_id)
        ended = len(self._stores.jobs.ended(jobs)) == len(jobs)
        if ended and self._stores.batches.move(batch.id, self._owner, "finalizing"):
            self._finish(batch)

    def _finish(self, batch: Batch) -> None:
        """Write the files of a batch under new ids; they are seen from the moment on at which the batch is done."""
        counts, output, failures = batchoutput.write(self._stores, batch, lambda: self._keep(batch.id))
        done = "cancelled" if batch.cancelling_at is not None else "expired" if counts.unmade else "completed"
        is_ours = self._stores.batches.finish(
            batch.id,
            self._owner,
            done,
            completed=counts.completed,
            failed=counts.failed,
            tokens=counts.tokens,
            output_file_id=output.id if output.size else None,
            error_file_id=failures.id if failures.size else None,
        )
        for writer in (output, failures):
            if not is_ours or not writer.size:
                writer.discard()
        if is_ours:
            # Else another may be reading the jobs, to write files of his own.
            self._clean(batch.id)

    def _clean(self, batch_id: str) -> None:
        """Delete the jobs of a batch that is at its end: what came of them lies in its files."""
        batches = self._stores.batches
        remove_jobs(self._stores, batches.get(batch_id), batches.groups(batch_id))
        batches.forget_lines(batch_id)

    def _keep(self, batch_id: str) -> None:
        """Show that somebody works at a batch; stop when another does, or when the process ends."""
        if self._stopping:
            raise _GivenBack
        if time.monotonic() - self._renewed < _RENEW:
            return
        if not self._stores.batches.claim(batch_id, self._owner):
            raise _GivenBack
        self._renewed = time.monotonic()


class _GivenBack(Exception):
    """Raised when a batch is left to others."""


def _seconds(window: str) -> int:
    return int(window.removesuffix("h")) * 3600
