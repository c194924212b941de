"""Bugs in how jobs and their results are kept, and in what is sent next."""

from __future__ import annotations

from tests.faults.plants.plant import Edit, Plant

_JOBS = "storage/jobs.py"
_CHOICE = "storage/choice.py"
_RESULTS = "storage/results.py"
_CHUNK_RESULTS = "worker/chunkresults.py"

#: What follows when a job is sealed.
_SEALED = '        failpoints.reach("submit.sealed")\n        return True\n\n    def get('

KEEPING = (
    Plant(
        "plain-begin",
        "writes on SQLite begin without IMMEDIATE and fail when another one comes in between",
        "tests/faults/test_planted_gaps.py::test_a_transaction_that_reads_before_it_writes_is_never_refused",
        (Edit("storage/sqlitefile.py", 'driver.execute("BEGIN IMMEDIATE")', 'driver.execute("BEGIN")'),),
    ),
    Plant(
        "no-fair-share",
        "what is sent next goes by age alone: one key's bulk keeps all others waiting",
        "tests/storage/test_choice.py::test_keys_share_what_is_under_way_whoever_came_first",
        (
            Edit(
                _CHOICE,
                "    keys = [key for key in",
                """\
    oldest = _pending().order_by(JobRow.created_at, JobRow.id, ChunkRow.number)
    aged = connection.execute(oldest.limit(room).with_for_update(**SKIP_LOCKED), queue).all()
    if aged:
        return {(row.job_id, row.number): row.token_estimate for row in aged}
    keys = [key for key in""",
            ),
        ),
    ),
    Plant(
        "small-jobs-wait",
        "a small job waits until every older large one of its key is done",
        "tests/storage/test_choice.py::test_a_small_job_does_not_wait_for_a_large_one_of_the_same_key",
        (Edit(_CHOICE, "_SMALL_FIRST = 0.75", "_SMALL_FIRST = 0.0"),),
    ),
    Plant(
        "unsealed-is-embedded",
        "the texts of a submission that was never finished are embedded",
        "tests/storage/test_claims.py::test_what_is_not_to_be_had_is_not_claimed",
        (
            Edit(
                "storage/tables.py",
                "JOB_IS_OPEN = JobRow.state.in_([literal_column(\"'queued'\"), literal_column(\"'running'\")])\n",
                """\
_OPEN_WORDS = ("accepting", "queued", "running")
JOB_IS_OPEN = JobRow.state.in_([literal_column(f"'{word}'") for word in _OPEN_WORDS])
""",
            ),
        ),
    ),
    Plant(
        "unsealed-is-visible",
        "a submission that was never finished is listed as a job",
        "tests/storage/test_jobs.py::test_jobs_are_listed_newest_first_in_pages_and_only_once_sealed",
        (
            Edit(
                "storage/jobmatching.py",
                "    found.append("
                "JobRow.state != JobState.ACCEPTING if states is None else JobRow.state.in_(states))\n",
                "    if states is not None:\n        found.append(JobRow.state.in_(states))\n",
            ),
        ),
    ),
    Plant(
        "key-accepts-two",
        "of two submissions with one idempotency key at once, both are accepted",
        "tests/storage/test_jobs.py::test_an_idempotency_key_belongs_to_one_job",
        (
            Edit(
                _JOBS,
                f"            return False\n{_SEALED}",
                f"            return self.seal(job_id, total, chunks, payload_hash)\n{_SEALED}",
            ),
        ),
    ),
    Plant(
        "expiry-leaves-chunks-open",
        "a job whose time is over keeps items without an outcome",
        "tests/storage/test_expiry.py::test_a_job_whose_time_is_over_keeps_what_is_done_and_cancels_the_rest",
        (
            Edit(
                _JOBS,
                "if end(connection, job_id, ended(JobState.EXPIRED), *over) is not Ending.REFUSED:",
                "values = ended(JobState.EXPIRED)\n"
                "                    if connection.execute(update(JobRow).where(JobRow.id == job_id, *over)"
                ".values(values)).rowcount:",
            ),
            Edit(_JOBS, "from sqlalchemy import select\n", "from sqlalchemy import select, update\n"),
        ),
    ),
    Plant(
        "retry-embeds-everything",
        "`retry` sends every item round again and replaces vectors",
        "tests/worker/test_embedding.py::test_retry_embeds_the_failed_items_alone_and_keeps_the_others_bytes",
        (
            Edit(
                _CHUNK_RESULTS,
                """\
    if chunk.kept is None:
        return [i for i in range(len(chunk.texts)) if i not in chunk.settled]
    return [i for i in unpack_errors(chunk.kept.errors or {}) if i not in chunk.settled]
""",
                "    return [i for i in range(len(chunk.texts)) if i not in chunk.settled]\n",
            ),
            Edit(_CHUNK_RESULTS, "import ChunkResult, unpack_errors\n", "import ChunkResult\n"),
        ),
    ),
    Plant(
        "bad-vectors-from-the-engine",
        "the engine hands out NaN, infinite and zero vectors as good ones",
        "tests/engine/test_bad_vectors.py::test_a_bad_vector_is_its_texts_error",
        (
            Edit(
                "worker/engine/runner.py",
                """\
    good = np.asarray(np.all(sizes <= found.recipe.largest, axis=1) & np.any(sizes > 0, axis=1))
""",
                "    good = np.ones(len(sizes), dtype=np.bool_)\n",
            ),
        ),
    ),
    Plant(
        "bad-vectors-are-stored",
        "a vector that is not finite is stored, if the engine lets one pass",
        "tests/worker/test_embedding.py::test_a_vector_too_large_for_float16_is_that_items_error",
        (
            Edit(
                _RESULTS,
                "or not self._has_outcomes(size):\n",
                "or len(self.errors) > size:\n",
            ),
            Edit(
                _CHUNK_RESULTS,
                "set(np.flatnonzero(~np.isfinite(matrix).all(axis=1)).tolist()) - set(errors)",
                "set[int]() - set(errors)",
            ),
        ),
    ),
    Plant(
        "submit-needs-redis",
        "a job that is already safe is told as refused because Redis is away",
        "tests/worker/test_broker_submit.py::test_redis_is_down",
        (
            Edit(
                "producer/sender.py",
                """\
        try:
            dispatch(self._stores.chunks, self._queue.send, *what)
        except QueueUnavailable as error:
            reason = error.message.rstrip(".")
            return f"{reason}: the job is safe and starts when Redis takes messages again."
        return None
""",
                """\
        dispatch(self._stores.chunks, self._queue.send, *what)
        return None
""",
            ),
            Edit("producer/sender.py", "from storage.contract.errors import QueueUnavailable\n", ""),
            Edit(
                "producer/client.py",
                "storage.contract.errors import ServerError",
                "storage.contract.errors import QueueUnavailable, ServerError",
            ),
            Edit(
                "producer/client.py",
                """\
            else:
                job.notice = self._sender.due(job.record())
        except ServerError as error:
            # The job is accepted: whatever fails from here on, its id must not be lost.
            job.notice = f"The job is safe; it starts by itself. {error.message}"
""",
                """\
            else:
                job.notice = self._sender.due(job.record())
        except QueueUnavailable:
            raise
""",
            ),
        ),
    ),
    Plant(
        "no-window",
        "everything that is pending is sent at once, however large the job: Redis grows with it",
        "tests/storage/test_chunks.py::test_each_live_worker_opens_a_window_of_four",
        (Edit("storage/chunks.py", "WINDOW_PER_WORKER = 4", "WINDOW_PER_WORKER = 4_000_000"),),
    ),
)
