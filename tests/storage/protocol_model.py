"""The protocol as a person would keep it on paper: dictionaries, no database; it says what every call must return.

It knows nothing of the program under test; the words are those of the design, the numbers those it promises.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.storage.protocol_jobs import OPEN_CHUNK, Attempt, Chunk, Job, Outcome

#: Messages out for each worker, deaths after which a chunk is halved, and after which a single text is given up.
WINDOW, HALVED_AFTER, GIVEN_UP_AFTER = 4, 2, 4

OPEN_JOB = ("queued", "running")
FINAL_JOB = ("completed", "failed", "cancelled", "expired")


class Refused(Exception):
    """What a call must raise: `job_not_found` or `wrong_state`."""


class Model:
    """All jobs, and every move there is."""

    def __init__(self, workers: int) -> None:
        self.jobs: dict[str, Job] = {}
        self._workers = workers

    def chunk(self, job_id: str, number: int) -> Chunk | None:
        """Return a chunk, or None where there is none."""
        job = self.jobs.get(job_id)
        return job.chunks.get(number) if job else None

    def chunks(self, *states: str) -> list[Chunk]:
        """Return all chunks in these states, by job and number."""
        found = [chunk for job in self.jobs.values() for chunk in job.chunks.values() if chunk.state in states]
        return sorted(found, key=lambda chunk: (chunk.job, chunk.number))

    def seen(self, job_id: str) -> Job:
        """Return a job that a caller may ask for."""
        job = self.jobs.get(job_id)
        if job is None or job.deleted:
            raise Refused("job_not_found")
        return job

    def seal(self, job_id: str, key: str | None) -> bool:
        job = self.jobs.get(job_id)
        if job is None or job.deleted or job.state != "accepting":
            raise Refused("wrong_state")
        if key is not None and any(other.key == key for other in self.jobs.values()):
            return False
        job.state, job.key = "queued", key
        return True

    # Messages

    def sendable(self) -> set[tuple[str, int]]:
        """Return what may be sent or taken along."""
        waiting = [c for c in self.chunks("pending") if not c.resting]
        return {(c.job, c.number) for c in waiting if self._runs(c)}

    def room(self) -> int:
        """Return how many messages may be sent."""
        return max(0, WINDOW * self._workers - len(self.chunks("dispatched")))

    def send(self, keys: Iterable[tuple[str, int]]) -> None:
        for job_id, number in keys:
            self.jobs[job_id].chunks[number].state = "dispatched"

    def take_back(self, keys: Iterable[tuple[str, int]] | None = None) -> int:
        """Take back messages, all by default; return how many were out."""
        out = [c for c in self.chunks("dispatched") if keys is None or (c.job, c.number) in set(keys)]
        for chunk in out:
            chunk.state = "pending"
        return len(out)

    # Leases

    def suspects(self) -> list[Chunk]:
        """Return the chunks that wait to be tried alone, since they were there when a process died."""
        return [c for c in self.chunks("pending", "dispatched") if c.crashes and not c.resting and self._runs(c)]

    def claim(self, job_id: str, number: int, worker: str, further: bool) -> list[Chunk]:
        """Lease a chunk, and with `further` all others that may be taken along; return what was leased."""
        chunk = self.chunk(job_id, number)
        if chunk is None or not self._runs(chunk):
            return []
        waiting = chunk.state in ("pending", "dispatched") and not chunk.resting
        if not waiting and not (chunk.state == "leased" and chunk.silent):
            return []
        taken = [chunk]
        if further and not chunk.crashes:
            others = [self.jobs[job].chunks[n] for job, n in self.sendable() if (job, n) != (job_id, number)]
            taken += [other for other in others if not other.crashes]
        for one in taken:
            one.state, one.owner, one.silent = "leased", worker, False
            one.token += 1
            one.claims += 1
            self.jobs[one.job].state = "running"
        return taken

    def holder(self, attempt: Attempt) -> Chunk | None:
        """Return the chunk that an attempt still holds, or None when it is late."""
        chunk = self.chunk(*attempt[:2])
        return chunk if chunk and chunk.state == "leased" and chunk.token == attempt[2] else None

    def beat(self, held: Iterable[Attempt]) -> set[Attempt]:
        still = {attempt for attempt in held if self.holder(attempt)}
        for job_id, number, _ in still:
            self.jobs[job_id].chunks[number].silent = False
        return still

    def commit(self, rows: Sequence[tuple[Attempt, list[Outcome]]]) -> tuple[set[Attempt], set[str]]:
        written = set()
        for attempt, row in rows:
            if chunk := self.holder(attempt):
                chunk.end(row)
                written.add(attempt)
        found = {attempt for attempt, _ in rows if self._is_written(attempt)}
        return written | found, self._finished({job_id for job_id, _, _ in written})

    def release(self, attempts: Iterable[Attempt], resting: bool) -> None:
        for attempt in attempts:
            if chunk := self.holder(attempt):
                chunk.wait(resting)

    def give_up(self, attempts: Iterable[Attempt], code: str) -> set[str]:
        held = [chunk for attempt in attempts if (chunk := self.holder(attempt))]
        for chunk in held:
            chunk.end(chunk.filled(dict.fromkeys(chunk.todo(), code)))
        return self._finished({chunk.job for chunk in held})

    def lose_worker(self, worker: str, died: bool) -> int:
        held = [chunk for chunk in self.chunks("leased") if chunk.owner == worker]
        for chunk in held:
            chunk.wait()
            chunk.crashes += died
        for chunk in held if died else ():
            if chunk.size > 1 and chunk.crashes >= HALVED_AFTER:
                self._halve(chunk)
            elif chunk.size == 1 and chunk.crashes >= GIVEN_UP_AFTER:
                chunk.end(chunk.filled(dict.fromkeys(chunk.todo(), "poison")))
                self._finished({chunk.job})
        return len(held)

    def release_silent(self) -> int:
        silent = [chunk for chunk in self.chunks("leased") if chunk.silent]
        for chunk in silent:
            chunk.wait()
        return len(silent)

    # Ends

    def cancel(self, job_id: str) -> bool:
        job = self.seen(job_id)
        if job.state in OPEN_JOB:
            self._end(job, "cancelled")
            return True
        if job.state == "cancelled":
            return False
        raise Refused("wrong_state")

    def fail(self, job_id: str) -> None:
        if (job := self.jobs.get(job_id)) and job.state in OPEN_JOB:
            self._end(job, "failed")

    def expire(self) -> set[str]:
        late = {job_id for job_id, job in self.jobs.items() if job.over and job.state in OPEN_JOB}
        for job_id in late:
            self._end(self.jobs[job_id], "expired")
        return late

    def retriable(self) -> list[str]:
        """Return the jobs in which something failed that another round may mend."""
        ended = {job_id: job for job_id, job in self.jobs.items() if job.state == "completed" and not job.deleted}
        return sorted(j for j, job in ended.items() if any(c.failed > len(c.invalid) for c in job.chunks.values()))

    def retry(self, job_id: str) -> int:
        job = self.seen(job_id)
        if job.state != "completed":
            raise Refused("wrong_state")
        again = [c for c in job.chunks.values() if c.state == "done" and c.failed > len(c.invalid)]
        items = sum(chunk.failed - len(chunk.invalid) for chunk in again)
        for chunk in again:
            chunk.wait()
            chunk.failed, chunk.crashes = len(chunk.invalid), 0
        if items:
            job.state, job.over = "queued", False
            job.generation += 1
        return items

    def mark(self, job_id: str) -> None:
        """Delete as far as a caller can tell."""
        job = self.seen(job_id)
        if job.state not in FINAL_JOB:
            raise Refused("wrong_state")
        job.deleted, job.key = True, None

    def mark_all(self) -> int:
        """Mark every job that has ended or was never sealed; return how many."""
        going = [j for j in self.jobs.values() if not j.deleted and j.state in (*FINAL_JOB, "accepting")]
        for job in going:
            job.deleted, job.key = True, None
        return len(going)

    def step(self, job_id: str) -> bool:
        """Remove some of a marked job; return whether it is gone."""
        job = self.jobs.get(job_id)
        if job is None or not job.deleted:
            return True
        if job.chunks:
            job.chunks.clear()
            return False
        del self.jobs[job_id]
        return True

    def status(self, job_id: str) -> tuple[str, int, int, int, int]:
        """Return a job's state, and how many items have a vector, an error, are cancelled and are pending."""
        job = self.seen(job_id)
        parts = [chunk for chunk in job.chunks.values() if chunk.state != "split"]
        left = {c.number: c.size - c.succeeded - c.failed for c in parts}
        cancelled = sum(left[c.number] for c in parts if c.state == "cancelled")
        pending = sum(left[c.number] for c in parts if c.state in OPEN_CHUNK)
        return job.state, sum(c.succeeded for c in parts), sum(c.failed for c in parts), cancelled, pending

    def _runs(self, chunk: Chunk) -> bool:
        job = self.jobs[chunk.job]
        return job.state in OPEN_JOB and not job.over

    def _is_written(self, attempt: Attempt) -> bool:
        chunk = self.chunk(*attempt[:2])
        return chunk is not None and chunk.state == "done" and chunk.written == attempt[2]

    def _finished(self, job_ids: set[str]) -> set[str]:
        ended = {j for j in job_ids if self.jobs[j].state in OPEN_JOB and not self.jobs[j].unsettled()}
        for job_id in ended:
            self.jobs[job_id].state = "completed"
        return ended

    def _halve(self, chunk: Chunk) -> None:
        chunks = self.jobs[chunk.job].chunks
        middle, following = chunk.size // 2, max(chunks) + 1
        for number, (start, stop) in enumerate(((0, middle), (middle, chunk.size)), following):
            invalid = frozenset(i - start for i in chunk.invalid if start <= i < stop)
            half = Chunk(chunk.job, number, chunk.first + start, stop - start, invalid, token=chunk.token, crashes=1)
            if chunk.row is not None:
                half.row, half.written = chunk.row[start:stop], chunk.written
            half.count()
            half.failed = len(invalid)
            chunks[number] = half
        chunk.state, chunk.row, chunk.written = "split", None, None

    @staticmethod
    def _end(job: Job, state: str) -> None:
        job.state = state
        for chunk in job.unsettled():
            chunk.state, chunk.owner, chunk.silent = "cancelled", None, False
