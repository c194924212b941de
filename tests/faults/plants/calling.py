"""Bugs in calls, in the states of tokens that they may ask for, and in what is asked at the door."""

from __future__ import annotations

from tests.faults.plants.plant import Edit, Plant

_STATES = "tests/engine/test_states.py"
_QUOTAS = "tests/storage/test_retry_quotas.py"
_LINE = "tests/service/test_callline.py"

CALLING = (
    Plant(
        "states-of-a-bad-text-stay",
        "the states of a text whose error came late lie among those of the others, so that each has another's",
        f"{_STATES}::test_a_bad_state_of_one_token_is_its_texts_error",
        (
            Edit(
                "worker/engine/call.py",
                "            good = np.flatnonzero(~np.isin(self._places, list(self._errors)))\n",
                "            good = np.arange(len(self._places))\n",
            ),
        ),
    ),
    Plant(
        "one-good-token-is-enough",
        "states are kept of a text one of whose tokens has none",
        f"{_STATES}::test_a_bad_state_of_one_token_is_its_texts_error",
        (
            Edit(
                "worker/engine/runner.py",
                "    return np.logical_and.reduceat(good",
                "    return np.logical_or.reduceat(good",
            ),
        ),
    ),
    Plant(
        "states-pass-for-vectors",
        "the states of a call are read as if there were one vector a text",
        "tests/storage/test_results.py::test_states_of_tokens_are_read_item_by_item_and_never_as_one_vector_each",
        (
            Edit(
                "storage/outcomes.py",
                "        if self.each_token:\n",
                "        if self.each_token and not self.width:\n",
            ),
        ),
    ),
    Plant(
        "a-retry-asks-nobody",
        "failed items go round again whatever their key may have and use",
        f"{_QUOTAS}::test_a_retry_is_one_more_open_job",
        (
            Edit(
                "storage/retries.py",
                "            admit_again(connection, job_id, job.key_id, failed.tokens, sent.tokens)\n",
                "",
            ),
            Edit("storage/retries.py", "import admit_again, owe\n", "import owe\n"),
        ),
    ),
    Plant(
        "webhook-after-acceptance",
        "a job is accepted before the address is kept that its end is to be told to",
        "tests/service/test_webhooks.py::test_a_job_that_is_accepted_has_its_webhook_whatever_ends_the_process_then",
        (Edit("storage/newjobs.py", "    if job.webhook is not None:\n", "    if job.webhook == job.id:\n"),),
    ),
    Plant(
        "nobody-is-sent-away",
        "whoever comes to a line of calls that is too long waits until his time is over",
        f"{_LINE}::test_whoever_comes_to_a_line_that_is_too_long_is_told_when_to_come_again",
        (
            Edit(
                "producer/api/callline.py",
                "        if late > 0:\n            raise",
                "        if late > 1e9:\n            raise",
            ),
        ),
    ),
    Plant(
        "calls-wake-nobody",
        "a call that finds no worker leaves no word for an autoscaler",
        "tests/service/test_backlog.py::test_a_call_that_no_worker_is_there_for_has_one_started",
        (Edit("producer/api/calls.py", "        if served:\n            self._want(served[0].card.id)\n", ""),),
    ),
    Plant(
        "full-seems-ready",
        "a service whose database has no room says that it is ready",
        "tests/service/test_disk_full.py::test_every_way_in_answers_507_and_works_again_with_room",
        (Edit("producer/api/health.py", "        service.stores.files.check_room()\n", ""),),
    ),
)
