from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.commands import CommandFailed, run, until
from tests.compose.report import Report


def test_a_command_is_told_what_it_reads_and_returns_what_it_printed() -> None:
    # Given a command that prints what it reads, a variable, and a line on its second stream
    code = "import os, sys; print(sys.stdin.read(), os.environ['GRAIN'], flush=True); print('dust', file=sys.stderr)"
    line, variables = [sys.executable, "-S", "-c", code], {"GRAIN": "rye"}
    # Then the second stream comes along only where it is asked for
    assert run(line, 60, stdin="sacks of", variables=variables) == (0, "sacks of rye")
    assert run(line, 60, variables=variables, both=True) == (0, "rye\ndust")


def test_a_command_that_fails_is_told_with_its_last_words_unless_it_may() -> None:
    # Given a command that says much, and fails
    line = [
        sys.executable,
        "-S",
        "-c",
        "print('\\n'.join(map(str, range(90)))); raise SystemExit('the wheel is stuck')",
    ]
    # Then what it said last is told
    with pytest.raises(CommandFailed, match=r"(?s)ended with 1:\n.*89\nthe wheel is stuck$") as failed:
        run(line, 60)
    assert "\n50\n" not in str(failed.value)
    # And where it may fail, its status is
    assert run(line, 60, check=False)[0] == 1


def test_a_wait_forgives_what_it_was_told_to_and_says_in_the_end_what_went_wrong_last() -> None:
    # Given something that is away at first, and then not yet so
    answers = iter([None, OSError("away"), [], "flour"])

    def ask() -> object:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    # Then it is asked until it is so
    assert until("flour", ask, 60, OSError, pause=0) == "flour"

    # And what never comes is told with the last error, and what is not forgiven at once
    def never() -> object:
        raise OSError("away")

    with pytest.raises(TimeoutError, match="flour: not within 0 s; last: away"):
        until("flour", never, 0.01, OSError, pause=0)
    with pytest.raises(OSError, match="away"):
        until("flour", never, 60, ValueError, pause=0)


def test_a_log_that_is_in_the_repository_does_not_make_its_own_commit_a_changed_one(tmp_path: Path) -> None:
    # Given a checkout with the log of an earlier run
    log = tmp_path / "run.log"
    log.write_text("of an earlier run\n")
    git = ["git", "-c", "user.name=miller", "-c", "user.email=miller@mill.test"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "a log"]):
        run([*git, *words], 60, folder=tmp_path)
    head = run(["git", "rev-parse", "HEAD"], 60, folder=tmp_path)[1]
    # When another is written over it
    report = Report(log, tmp_path)
    report.say("of this run")
    # Then it is of the commit as it is
    assert report.commit == head
    # And a report on files that differ says so
    assert Report(None, tmp_path).commit == f"{head}-dirty"
