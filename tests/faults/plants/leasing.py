"""Bugs in how chunks are claimed, held, committed and given back."""

from __future__ import annotations

from tests.faults.plants.plant import Edit, Plant

_LEASES = "storage/leases.py"
_CLAIMS = "storage/claiming.py"
_COMMITS = "tests/storage/test_commits.py"
_GAPS = "tests/faults/test_planted_gaps.py"

#: What checks the tokens of a commit, and what then writes its vectors.
_GUARD = "            written = _keys(connection.execute(_HELD, held))\n"
_WRITE = "write_results(connection, {key: by_attempt[key] for key in written})\n"

LEASING = (
    Plant(
        "no-token-guard",
        "a commit, release or give-up is accepted from whoever held the chunk before",
        f"{_COMMITS}::test_a_late_commit_changes_nothing",
        (
            Edit(
                "storage/naming.py",
                "tuple_(ChunkRow.job_id, ChunkRow.number, ChunkRow.token).in_(",
                "tuple_(ChunkRow.job_id, ChunkRow.number).in_(",
            ),
            Edit("storage/naming.py", '{"attempts": keys}', '{"attempts": [key[:2] for key in keys]}'),
            Edit(
                _LEASES,
                _GUARD,
                """\
            still = {key[:2] for key in _keys(connection.execute(_HELD, held))}
            written = {key for key in by_attempt if key[:2] in still}
""",
            ),
        ),
    ),
    Plant(
        "no-owner-guard",
        "whoever shows a chunk's token passes for its owner, although a failover had the token given out twice",
        f"{_COMMITS}::test_a_token_that_a_failover_gave_out_again_is_its_new_owners_alone",
        (Edit("storage/naming.py", ' & ChunkRow.lease_owner.in_(one_of("owners"))', ""),),
    ),
    Plant(
        "token-checked-apart",
        "the token is checked in a transaction of its own, the write after it is not guarded",
        f"{_GAPS}::test_a_commit_that_waited_while_its_chunk_was_taken_over_changes_nothing",
        (
            Edit(
                _LEASES,
                f"        with self._db.write() as connection:\n{_GUARD}",
                """\
        with self._db.read() as connection:
            look = select(*_ATTEMPT).where(naming.HELD)
            written = _keys(connection.execute(look, held))
        with self._db.write() as connection:
""",
            ),
        ),
    ),
    Plant(
        "clock-of-the-worker",
        "leases run on each machine's own clock instead of the database's",
        f"{_GAPS}::test_a_lease_runs_on_the_databases_clock_whatever_the_workers_says",
        (
            Edit(_CLAIMS, "from collections.abc import Sequence", "import time\nfrom collections.abc import Sequence"),
            Edit(_CLAIMS, '"lease": lease}', '"lease": int(time.time() * 1000) + lease}'),
            Edit(_CLAIMS, 'now_ms() + bindparam("lease"', 'bindparam("lease"'),
        ),
    ),
    Plant(
        "done-before-vectors",
        "`done` is committed in one transaction and the vectors in the next",
        f"{_COMMITS}::test_a_commit_that_breaks_in_the_middle_writes_nothing",
        (
            Edit(_LEASES, f"                {_WRITE}", ""),
            Edit(
                _LEASES,
                '            failpoints.reach("commit.written")\n',
                f"""\
        with self._db.write() as connection:
            if written:
                {_WRITE}            failpoints.reach("commit.written")
""",
            ),
        ),
    ),
    Plant(
        "late-result-overwrites",
        "the guard counts for the chunk's state, not for its vectors",
        f"{_COMMITS}::test_a_second_attempt_never_changes_what_the_first_committed",
        (
            Edit(_LEASES, f"                {_WRITE}", ""),
            Edit(_LEASES, _GUARD, f"            write_results(connection, by_attempt)\n{_GUARD}"),
        ),
    ),
    Plant(
        "lost-answer-is-late",
        "a commit that is asked about again, because its answer was lost, is told as late",
        f"{_COMMITS}::test_a_second_attempt_never_changes_what_the_first_committed",
        (
            Edit(
                _LEASES,
                "resolved = {key for key in by_attempt if key not in written and _committed_before(connection, key)}",
                "resolved: set[AttemptKey] = set()",
            ),
        ),
    ),
    Plant(
        "token-stands-still",
        "a claim raises no token, so that two attempts cannot be told apart",
        "tests/storage/test_claims.py::test_a_token_only_grows",
        (Edit(_CLAIMS, '    "token": ChunkRow.token + 1,\n', ""),),
    ),
    Plant(
        "expiry-by-select-then-update",
        "expired leases are looked up first and taken back by their ids, so that a commit in between is undone",
        f"{_GAPS}::test_a_commit_while_expired_leases_are_taken_back_is_not_undone",
        (
            Edit(
                _LEASES,
                """\
            if not connection.execute(select(ChunkRow.number).where(*expired).limit(1)).first():
                return 0
""",
                """\
            free = [tuple(row) for row in connection.execute(select(ChunkRow.job_id, ChunkRow.number).where(*expired))]
            if not free:
                return 0
""",
            ),
            Edit(
                _LEASES,
                """\
            free = select(ChunkRow.job_id, ChunkRow.number).where(*expired).with_for_update(**SKIP_LOCKED)
            these = tuple_(ChunkRow.job_id, ChunkRow.number).in_(free)
            count = connection.execute(update(ChunkRow).where(*expired, these).values(_pending_values())).rowcount
""",
                """\
            these = tuple_(ChunkRow.job_id, ChunkRow.number).in_(free)
            count = connection.execute(update(ChunkRow).where(these).values(_pending_values())).rowcount
""",
            ),
        ),
    ),
    Plant(
        "heartbeat-extends-everything",
        "a beat extends every lease of the worker, also those it does not know of: they never end",
        "tests/worker/test_heartbeat.py::test_a_beat_extends_the_leases_of_what_is_worked_on_and_of_nothing_else",
        (
            Edit(
                _LEASES,
                "        these = naming.HELD if self._db.is_sqlite else naming.HELD & _IS_FREE\n",
                '        these = ChunkRow.lease_owner.in_(naming.one_of("owners")) & CHUNK_IS_LEASED\n',
            ),
        ),
    ),
    Plant(
        "heartbeat-waits-for-commits",
        "a heartbeat waits for whoever has one of its chunks locked, and the leases of all the others run out",
        "tests/storage/test_claims.py::test_a_heartbeat_waits_for_no_commit",
        (Edit(_LEASES, "naming.HELD if self._db.is_sqlite else naming.HELD & _IS_FREE", "naming.HELD"),),
    ),
    Plant(
        "counters-wait",
        "adding up waits for whoever adds to the same counter, and no heartbeat comes meanwhile",
        "tests/storage/test_counters.py::test_whoever_vanishes_while_it_adds_up_keeps_nobody_waiting",
        (Edit("storage/counted.py", '_PATIENCE = "200ms"', '_PATIENCE = "10s"'),),
    ),
    Plant(
        "deaths-are-not-charged",
        "a process death leaves no trace in the chunks it held: a text that kills is never found",
        "tests/storage/test_claims.py::test_a_stopped_workers_chunks_come_back_and_a_death_is_counted",
        (
            Edit(
                _LEASES,
                'values = _pending_values() | ({"crashes": ChunkRow.crashes + 1} if died else {})',
                "values = _pending_values()",
            ),
        ),
    ),
    Plant(
        "suspects-share-their-claim",
        "a suspected chunk is claimed together with others, which are then charged with its deaths",
        "tests/storage/test_isolation.py::test_a_first_death_proves_nothing_but_makes_a_suspect_that_runs_alone",
        (
            Edit(
                _CLAIMS,
                "room = 0 if leased[0].crashes else token_room - leased[0].token_estimate",
                "room = token_room - leased[0].token_estimate",
            ),
            Edit(_CLAIMS, "CHUNK_IS_PENDING, ChunkRow.crashes == 0", "CHUNK_IS_PENDING"),
        ),
    ),
    Plant(
        "lost-machines-are-charged",
        "a lease that runs out is charged as a death: the loss of a machine condemns innocent texts",
        "tests/storage/test_claims.py::test_expired_leases_come_back_without_anybodys_fault_and_running_ones_do_not",
        (
            Edit(
                _LEASES,
                """\
            count = connection.execute(update(ChunkRow).where(*expired, these).values(_pending_values())).rowcount
""",
                """\
            values = _pending_values() | {"crashes": ChunkRow.crashes + 1}
            count = connection.execute(update(ChunkRow).where(*expired, these).values(values)).rowcount
""",
            ),
        ),
    ),
    Plant(
        "condemned-too-soon",
        "a text is called poison after it killed two processes alone, not three",
        "tests/storage/test_isolation.py::test_one_text_is_given_up_only_after_it_killed_three_processes_alone",
        (Edit("storage/isolation.py", "POISON_AFTER = 4", "POISON_AFTER = 3"),),
    ),
)
