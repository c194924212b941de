"""Bugs in who watches over processes and messages: worker, supervisor, reconciler."""

from __future__ import annotations

from tests.faults.plants.plant import Edit, Plant

_EMBEDDING = "worker/embedding.py"
_PROCESS = "worker/process.py"
_RECONCILER = "worker/reconciler.py"
_CHILD, _CHORES = "worker/child.py", "worker/chores.py"
_GAPS = "tests/faults/test_planted_gaps.py"
_HANGS = "tests/faults/test_hangs.py"

WATCHING = (
    Plant(
        "lost-messages-stay-lost",
        "a chunk whose message Redis has lost is never sent again",
        "tests/worker/test_reconciler.py::test_messages_that_vanished_from_redis_are_sent_again",
        (
            Edit(
                _RECONCILER,
                "                lost += self._stores.chunks.redispatch(MISSED_AFTER, model_id)\n",
                "                lost += 0\n",
            ),
        ),
    ),
    Plant(
        "one-look-is-enough",
        "a message that was missing at one look, between Redis and its claim, counts as lost and is sent twice",
        "tests/worker/test_shortages.py::test_what_was_there_once_in_between_is_not",
        (Edit("worker/shortages.py", "len(seen) < LOOKS or min(seen) <= 0", "missing <= 0"),),
    ),
    Plant(
        "servers-are-held-against-slots",
        "a database that is away while processes start counts as deaths of the slot, which is taken out for good",
        "tests/worker/test_child.py::test_a_server_that_is_away_is_not_held_against_a_slot_nor_its_chunks",
        (Edit(_CHILD, "        if code in exits.OF_SERVERS:\n", "        if code in exits.OF_SERVERS[2:]:\n"),),
    ),
    Plant(
        "standstills-are-charged",
        "a machine that was frozen has its silent processes killed as soon as it goes on",
        "tests/worker/test_child.py::test_a_child_is_not_charged_with_time_in_which_its_parent_stood_still",
        (Edit(_CHILD, "            self._seen += beyond\n", ""),),
    ),
    Plant(
        "the-supervisor-waits-for-the-database",
        "a dead process is seen to before the others are looked after again, however long the database takes",
        "tests/worker/test_chores.py::test_whoever_looks_after_processes_does_not_wait_for_the_database",
        (
            Edit(
                _CHORES,
                "        self._dead[worker_id] = child, charge\n",
                "        self._dead[worker_id] = child, charge\n        self._release(worker_id)\n",
            ),
        ),
    ),
    Plant(
        "a-hanging-round-is-not-seen",
        "a process whom the database neither answers nor fails goes on, and extends no lease",
        "tests/worker/test_child.py::test_a_child_whose_talk_with_the_database_hangs_ends_itself",
        (Edit("worker/parent.py", "        if last is None:\n", "        if last is None or slept > 0:\n"),),
    ),
    Plant(
        "unsent-stays-marked",
        "what could not be sent stays marked as sent",
        "tests/worker/test_reconciler.py::test_what_could_not_be_sent_is_sent_later",
        (
            Edit(
                "storage/dispatch.py",
                "        chunks.undispatch(pointers)\n        raise\n",
                "        raise\n",
            ),
        ),
    ),
    Plant(
        "no-starvation-watchdog",
        "a process whose consumer has come to rest stays as it is",
        f"{_HANGS}::test_a_process_that_takes_no_messages_any_more_ends_itself_and_the_next_one_does",
        (
            Edit(
                _PROCESS,
                "            Starvation(self._settings.redis, queues, embedding.idle_for,"
                " partial(self._stores.chunks.out, card.id)),\n",
                "",
            ),
            Edit(_PROCESS, "from worker.starvation import Starvation\n", ""),
            Edit(_PROCESS, "from functools import partial\n", ""),
        ),
    ),
    Plant(
        "no-stall-watchdog",
        "a process whose engine hangs keeps its chunks for ever, its leases extended",
        f"{_HANGS}::test_a_process_whose_engine_hangs_ends_itself_and_its_chunks_are_done",
        (
            Edit(_PROCESS, "            stall(lambda: self._engine.progress),\n", ""),
            Edit(_PROCESS, "from worker.watches import Watch, stall\n", "from worker.watches import Watch\n"),
        ),
    ),
    Plant(
        "sweep-ends-at-a-bad-row",
        "a row that cannot be read hides all others from the reconciler",
        f"{_GAPS}::test_a_row_that_cannot_be_read_keeps_the_sweep_from_nothing_else",
        (Edit("storage/workers.py", "        except (TypeError, AttributeError):\n", "        except KeyError:\n"),),
    ),
    Plant(
        "sweep-ends-at-an-error",
        "a duty of the reconciler that fails keeps the next ones from their turn",
        "tests/worker/test_reconciler.py::test_one_duty_that_fails_does_not_keep_the_others_from_their_turn",
        (Edit(_RECONCILER, "            self._attempt(duty)\n", "            duty()\n"),),
    ),
    Plant(
        "drops-are-not-counted",
        "doubled and forged messages are dropped without a trace",
        f"{_GAPS}::test_a_message_that_comes_twice_is_counted_as_dropped",
        (Edit(_EMBEDDING, 'counters.count("messages_dropped")', 'counters.count("messages_dropped", 0)'),),
    ),
    Plant(
        "suspects-in-company",
        "a suspected chunk runs beside others, which are then charged with its deaths",
        f"{_GAPS}::test_a_suspect_is_embedded_while_nothing_else_is",
        (Edit(_EMBEDDING, "self._solitude.held(alone=True)", "self._solitude.held(alone=False)"),),
    ),
    Plant(
        "dead-processes-keep-their-leases",
        "the supervisor gives nothing back when a process dies: its chunks wait for their leases to run out",
        "tests/faults/test_processes.py"
        "::test_a_worker_process_killed_in_the_midst_of_a_batch_is_replaced_and_its_chunks_are_done",
        (
            Edit(
                _CHORES,
                "        released = self._stores.leases.release_worker(worker_id, charge)\n",
                "        released = 0\n",
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
                "self._release(claims, 0 if stopped else delays.without_server())",
                "self._release([] if stopped else claims, delays.without_server())",
            ),
            Edit(_PROCESS, "            self._stores.leases.release_worker(self._id)\n", ""),
            Edit(
                _CHORES,
                "        released = self._stores.leases.release_worker(worker_id, charge)\n",
                "        released = self._stores.leases.release_worker(worker_id, charge) if charge else 0\n",
            ),
        ),
    ),
)
