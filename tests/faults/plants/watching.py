"""Bugs in who watches over processes and messages: worker, supervisor, reconciler."""

from __future__ import annotations

from tests.faults.plants.plant import Edit, Plant

_EMBEDDING = "worker/embedding.py"
_PROCESS = "worker/process.py"
_RECONCILER = "worker/reconciler.py"
_SUPERVISOR = "worker/supervisor.py"
_GAPS = "tests/faults/test_planted_gaps.py"

WATCHING = (
    Plant(
        "lost-messages-stay-lost",
        "a chunk whose message Redis has lost is never sent again",
        "tests/worker/test_reconciler.py::test_messages_that_vanished_from_redis_are_sent_again",
        (
            Edit(
                _RECONCILER,
                "                lost += self._stores.chunks.redispatch(MISSED_AFTER, card.id)\n",
                "                lost += 0\n",
            ),
        ),
    ),
    Plant(
        "unsent-stays-marked",
        "what could not be sent stays marked as sent",
        "tests/worker/test_reconciler.py::test_what_could_not_be_sent_is_sent_later",
        (Edit("storage/dispatch.py", "            chunks.undispatch(pointers)\n            raise\n", "            raise\n"),),
    ),
    Plant(
        "no-starvation-watchdog",
        "a process whose consumer has come to rest stays as it is",
        f"{_GAPS}::test_a_worker_that_takes_no_messages_any_more_is_replaced",
        (
            Edit(_PROCESS, "            Starvation(self._settings.redis, queues, embedding.idle_for),\n", ""),
            Edit(_PROCESS, "from worker.starvation import Starvation\n", ""),
        ),
    ),
    Plant(
        "drops-are-not-counted",
        "doubled and forged messages are dropped without a trace",
        f"{_GAPS}::test_a_message_that_comes_twice_is_counted_as_dropped",
        (
            Edit(_EMBEDDING, '            counters.count("messages_dropped")\n', ""),
            Edit(_EMBEDDING, "from storage import counters, vectors\n", "from storage import vectors\n"),
        ),
    ),
    Plant(
        "suspects-in-company",
        "a suspected chunk runs beside others, which are then charged with its deaths",
        f"{_GAPS}::test_a_suspect_is_embedded_while_nothing_else_is",
        (Edit(_EMBEDDING, "self._solitude.held(alone=claims[0].alone)", "self._solitude.held(alone=False)"),),
    ),
    Plant(
        "dead-processes-keep-their-leases",
        "the supervisor gives nothing back when a process dies: its chunks wait for their leases to run out",
        f"{_GAPS}::test_what_a_killed_process_held_is_done_long_before_its_leases_end",
        (
            Edit(
                _SUPERVISOR,
                "            released = self._stores.leases.release_worker(worker_id, died)\n",
                "            released = 0\n",
            ),
        ),
    ),
    Plant(
        "a-stop-keeps-its-leases",
        "a worker that is stopped in order leaves its chunks leased",
        f"{_GAPS}::test_a_worker_that_is_stopped_leaves_nothing_leased",
        (
            Edit(
                _EMBEDDING,
                "            self._release(claims, 0 if stopped else self._delay(claims))\n",
                "            if not stopped:\n                self._release(claims, self._delay(claims))\n",
            ),
            Edit(_PROCESS, "            self._stores.leases.release_worker(self._id)\n", ""),
            Edit(
                _SUPERVISOR,
                "            released = self._stores.leases.release_worker(worker_id, died)\n",
                "            released = self._stores.leases.release_worker(worker_id, died) if died else 0\n",
            ),
        ),
    ),
)
