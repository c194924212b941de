"""Bugs in the service: in what comes in over HTTP, in whom it belongs to, and in what goes out."""

from __future__ import annotations

from tests.faults.plants.plant import Edit, Plant

_AUTH = "producer/api/auth.py"
_BATCHWORK = "producer/api/openai/batchwork.py"
_BATCH_OUTPUT = "producer/api/openai/batchoutput.py"
_DELIVERER = "producer/api/deliverer.py"
_LEASES = "storage/leases.py"
_METERING = "storage/metering.py"
_PARTING = "producer/parting.py"
_PARTS = "storage/parts.py"
_BATCH_TESTS = "tests/service/openai/test_batches.py"
_LATE_BATCH_TESTS = "tests/producer/test_late_batchwork.py"
_PART_TESTS = "tests/storage/test_parts.py"
_QUOTA_TESTS = "tests/storage/test_quotas.py"
_WEBHOOK_TESTS = "tests/service/test_webhooks.py"

#: What is handed to the thread that takes a body in when its connection is cut.
_CUT = Edit("producer/api/uploading.py", "        pipe.end(Cut())\n", "        pipe.end(None)\n")

SERVING = (
    Plant(
        "cut-stream-is-accepted",
        "a stream of texts whose connection is cut becomes a job of what had come",
        "tests/service/test_native_streams.py::test_a_cut_connection_leaves_nothing",
        (_CUT,),
    ),
    Plant(
        "cut-part-counts-as-whole",
        "a part whose connection is cut is kept in half, and counts",
        "tests/service/test_parts.py::test_a_part_whose_connection_is_cut_is_still_due",
        (_CUT,),
    ),
    Plant(
        "killed-part-stays",
        "what a killed process has written of a part stays, and mixes with the next one",
        f"{_PART_TESTS}::test_what_a_killed_process_has_left_of_a_part_goes_with_the_next_writer",
        (
            Edit(
                _PARTS,
                "        taking = self._take(job_id)\n        while self._clean(taking):\n            pass\n"
                "        return taking\n",
                "        return self._take(job_id)\n",
            ),
        ),
    ),
    Plant(
        "part-is-taken-twice",
        "a part that is sent again, because its answer was lost, is kept a second time",
        f"{_PART_TESTS}::test_a_part_comes_again_and_again",
        (
            Edit(
                _PARTING,
                "        if known is not None:\n            return _same(known, body)\n",
                "        number = number if known is None else self._stores.parts.next(job_id)\n",
            ),
        ),
    ),
    Plant(
        "late-part-writer-is-not-fenced",
        "a writer of a part whom another one has followed goes on writing",
        f"{_PART_TESTS}::test_what_a_killed_process_has_left_of_a_part_goes_with_the_next_writer",
        (Edit("storage/takings.py", ".scalar() != taking.token:", ".scalar() is None:"),),
    ),
    Plant(
        "batch-output-is-seen-early",
        "the output of a batch is listed and can be read before the batch has ended",
        "tests/service/openai/test_batch_ends.py::test_nobody_sees_the_files_of_a_batch_before_its_end",
        (
            Edit(
                _BATCH_OUTPUT,
                'batch.key_id, life=batch.output_life, state="written"\n',
                "batch.key_id, life=batch.output_life\n",
            ),
        ),
    ),
    Plant(
        "cancelled-lines-are-left-out",
        "lines of a cancelled batch that were never executed stand in neither of its files",
        f"{_BATCH_TESTS}::test_a_cancelled_batch_keeps_what_was_done_and_names_the_rest",
        (
            Edit(
                _BATCH_OUTPUT,
                "            bad.add(told)\n",
                "            if was_made or batch.cancelling_at is None:\n                bad.add(told)\n",
            ),
        ),
    ),
    Plant(
        "batch-jobs-are-made-twice",
        "a batch that is taken up again after a crash makes its jobs anew",
        f"{_BATCH_TESTS}::test_a_batch_that_a_killed_process_left_is_taken_up_and_its_jobs_are_made_once",
        (Edit(_BATCHWORK, "idempotency_key=job_key(batch.id, group),", "idempotency_key=job_key(new_id(), group),"),),
    ),
    Plant(
        "late-batch-worker-is-not-fenced",
        "whoever has lost the right to a batch ends it all the same, a second time and with other files",
        "tests/storage/test_batches.py"
        "::test_the_files_of_a_batch_are_seen_with_its_end_and_only_those_of_the_one_who_ended_it",
        (
            Edit(
                "storage/batches.py",
                'mine = (BatchRow.id == batch_id, BatchRow.lease_owner == owner, BatchRow.state == "finalizing")',
                'mine = (BatchRow.id == batch_id, BatchRow.state == "finalizing")',
            ),
        ),
    ),
    Plant(
        "late-batch-worker-clears-up",
        "whoever has lost the right to end a batch deletes its jobs all the same, while another one reads them",
        f"{_LATE_BATCH_TESTS}::test_whoever_ends_a_batch_too_late_takes_no_job_from_under_the_one_who_reads_it",
        (Edit(_BATCHWORK, "        if is_ours:\n", "        if output.id:\n"),),
    ),
    Plant(
        "late-batch-plan-replaces",
        "whoever has lost the right to plan a batch replaces what another one has noted, its jobs too",
        f"{_LATE_BATCH_TESTS}::test_whoever_has_planned_too_late_takes_no_job_from_a_batch",
        (
            Edit(
                "storage/batches.py",
                'mine = (BatchRow.id == batch_id, BatchRow.lease_owner == owner, BatchRow.state == "validating")',
                "mine = (BatchRow.id == batch_id,)",
            ),
        ),
    ),
    Plant(
        "webhook-is-noted-before-it-is-sent",
        "the end of a job is told to nobody when the process dies between noting and sending",
        f"{_WEBHOOK_TESTS}::test_a_message_is_due_until_it_was_answered_well",
        (
            Edit(
                _DELIVERER,
                "                self._stores.webhooks.delivered("
                "webhook, send(webhook.url, body, headers, self._allowed))\n",
                "                self._stores.webhooks.delivered(webhook, 204)\n"
                "                send(webhook.url, body, headers, self._allowed)\n",
            ),
        ),
    ),
    Plant(
        "begun-webhooks-are-forgotten",
        "a message that was begun by a process that is no more is told by nobody",
        f"{_WEBHOOK_TESTS}::test_what_a_service_that_is_no_more_has_begun_is_told_by_the_next",
        (
            Edit(
                _DELIVERER,
                "        self._sending: dict[str, str] = {}\n",
                "        self._sending: dict[str, str] = {}\n        self._begun: set[str] = set()\n",
            ),
            Edit(
                _DELIVERER,
                "            self._unreadable.pop(webhook_id, None)\n",
                "            self._unreadable.pop(webhook_id, None)\n            self._begun.add(webhook_id)\n",
            ),
            Edit(_DELIVERER, "if webhook.id not in busy:", "if webhook.id in self._begun and webhook.id not in busy:"),
        ),
    ),
    Plant(
        "revoked-key-goes-on",
        "a key that was revoked by another process is believed as long as it is used",
        "tests/service/test_keys.py"
        "::test_a_key_revoked_elsewhere_is_refused_within_five_seconds_and_a_busy_one_asks_the_database_rarely",
        (Edit("producer/api/knownkeys.py", "_BELIEVED = 4.0", "_BELIEVED = 4_000.0"),),
    ),
    Plant(
        "foreign-jobs-are-readable",
        "whoever knows the id of another key's job can read, cancel and delete it",
        "tests/service/test_matrix.py::test_what_is_anothers_is_answered_as_what_nobody_has",
        (Edit(_AUTH, "    if not caller.may_see(job.record().key_id):\n", "    if not job.record().id:\n"),),
    ),
    Plant(
        "foreign-idempotency-key",
        "an idempotency key finds the job of another API key",
        "tests/storage/test_jobs.py::test_of_two_jobs_with_one_key_the_second_leaves_nothing_when_it_is_refused",
        (
            Edit(
                "storage/jobs.py",
                "same = (JobRow.idempotency_key == idempotency_key, JobRow.key_id == key_id)",
                "same = (JobRow.idempotency_key == idempotency_key,)",
            ),
        ),
    ),
    Plant(
        "quota-is-never-settled",
        "a key is charged by the estimate for ever, whatever was really read",
        f"{_QUOTA_TESTS}::test_a_commit_settles_what_was_really_read_once",
        (
            Edit(
                _LEASES,
                "            owe(connection, owed)\n",
                "            owe(connection, dict.fromkeys(owed, 0.0))\n",
            ),
        ),
    ),
    Plant(
        "quota-is-settled-twice",
        "a commit that is asked about again, because its answer was lost, is charged again",
        f"{_QUOTA_TESTS}::test_a_commit_settles_what_was_really_read_once",
        (
            Edit(
                _LEASES,
                "                owed = self._meter.owed("
                "connection, {key[:2]: by_attempt[key].read for key in written})\n",
                "",
            ),
            Edit(
                _LEASES,
                "            owe(connection, owed)\n",
                "            owed = self._meter.owed("
                "connection, {key[:2]: by_attempt[key].read for key in by_attempt})\n"
                "            owe(connection, owed)\n",
            ),
        ),
    ),
    Plant(
        "begun-chunks-are-given-back",
        "a cancelled job gives back the tokens of chunks that are being read",
        f"{_QUOTA_TESTS}::test_a_cancelled_job_gives_back_what_nobody_has_begun_with",
        (
            Edit(
                _METERING,
                "_CHARGE.where(CHUNK_IS_DISPATCHED)",
                '_CHARGE.where(CHUNK_IS_DISPATCHED | (ChunkRow.state == "leased"))',
            ),
        ),
    ),
    Plant(
        "accepted-stays-marked",
        "what was marked as sent with its acceptance stays so though Redis has not taken it",
        "tests/worker/test_broker_submit.py::test_redis_is_down",
        (
            Edit(
                "producer/sender.py",
                "self._sent(send_marked, pointers, queue)",
                "self._sent(lambda _, send, marked, to: send(marked, to), pointers, queue)",
            ),
            Edit("producer/sender.py", "import dispatch_next, send_marked\n", "import dispatch_next\n"),
        ),
    ),
    Plant(
        "answered-calls-stay",
        "the job of a call is not removed with its answer",
        "tests/service/openai/test_embeddings.py::test_nothing_is_left_of_a_call_that_was_answered",
        (
            Edit(
                "producer/api/calls.py",
                "                    finally:\n                        self._drop(job.id)\n",
                "                    except WaitTimeout:\n                        self._drop(job.id)\n"
                "                        raise\n",
            ),
        ),
    ),
    Plant(
        "forgotten-calls-stay",
        "the job of a call whose process died is never removed",
        "tests/storage/test_purges.py::test_calls_that_were_answered_long_ago_go_and_jobs_stay",
        (
            Edit(
                "storage/purges.py",
                "self._mark(_GOING, JOB_IS_CALL, *is_call)",
                "self._mark(_GOING, JOB_IS_CALL, *is_call, JobRow.finished_at < 0)",
            ),
        ),
    ),
)
