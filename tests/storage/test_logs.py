"""Log lines: for people at a terminal, JSON elsewhere, and never a value that somebody was given."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import textwrap
from datetime import datetime, timedelta
from typing import Any

import pytest

KEY = "em_abcdefghijklmnop_abcdefghijklmnopqrstuvwxyz234567"


def told(program: str, *, terminal: bool = False, form: str = "auto") -> str:
    """Run a program that logs, and return its stderr."""
    before = f"import logging\nfrom storage import logs\nlogs.configure('INFO', 'worker', {form!r}, slot='cpu')\n"
    # Compiled by hand, so that no Python has its source to show beside a traceback.
    run = "import sys; exec(compile(sys.argv[1], '<program>', 'exec'))"
    command = [sys.executable, "-c", run, before + textwrap.dedent(program)]
    if not terminal:
        return subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60).stderr
    ours, theirs = pty.openpty()
    subprocess.run(command, stderr=theirs, timeout=60)
    os.close(theirs)
    with open(ours, "rb", buffering=0) as end:
        return end.read(65536).decode().replace("\r\n", "\n")


def lines(program: str, **how: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told(program, **how).splitlines()]


def test_elsewhere_than_at_a_terminal_a_line_is_one_json_object_with_fields() -> None:
    # Given a worker that says something about a chunk, when nobody sits at a terminal
    line, after = lines("""
        with logs.about(job_id="0192", chunk=7, request_id=None):
            logging.getLogger("worker.embedding").warning("gave back %d chunks\\nat once", 3, extra={"data": "rye"})
        logging.getLogger("worker.embedding").info("done", extra={"model": "mill/stone"})
    """)
    # Then all of it is in fields, the time in UTC, and nothing that others hung on it
    moment = datetime.fromisoformat(line.pop("timestamp"))
    assert moment.utcoffset() == timedelta(0)
    assert isinstance(line.pop("pid"), int)
    assert line == {
        "level": "WARNING",
        "logger": "worker.embedding",
        "message": "gave back 3 chunks\nat once",
        "role": "worker",
        "slot": "cpu",
        "job_id": "0192",
        "chunk": 7,
    }
    assert after["model"] == "mill/stone" and "job_id" not in after


def test_at_a_terminal_a_line_is_a_sentence_for_people() -> None:
    program = """
        with logs.about(job_id="0192", chunk=7):
            logging.getLogger("worker.embedding").warning("gave back 3 chunks")
        logs.say("Ctrl-C stops everything.")
    """
    # Given a terminal, or that text was asked for, then JSON there is none
    for shown in (told(program, terminal=True), told(program, form="text")):
        line, said = shown.splitlines()
        assert line.endswith("gave back 3 chunks (job_id=0192 chunk=7)") and " WARNING [" in line
        assert said == "Ctrl-C stops everything."
    # And where JSON was asked for, a terminal gets it too
    assert (
        json.loads(told(program, terminal=True, form="json").splitlines()[1])["message"] == "Ctrl-C stops everything."
    )


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_shows_code_and_no_value(form: str) -> None:
    # Given an error that holds a text in its words, caused by one that does, and our own that says what to do
    shown = told(
        """
        from storage.contract.errors import StorageUnavailable
        try:
            try:
                try:
                    {}["barley at dawn"]
                except KeyError:
                    raise ValueError("cannot embed 'wheat and barley'")
            except ValueError as error:
                raise StorageUnavailable("The database is away.", "Start it.") from error
        except Exception:
            logging.getLogger("worker.embedding").exception("an unexpected error")
        try:
            raise ExceptionGroup("of wheat", [RuntimeError("of rye"), FileNotFoundError(2, "wheat.txt")])
        except Exception:
            logging.getLogger("worker.embedding").exception("several")
        """,
        form=form,
    )
    # Then the path to it is told, and which kinds of errors these were, and no word of the text
    for part in ("KeyError", "ValueError", "StorageUnavailable: The database is away.", "RuntimeError"):
        assert part in shown
    assert "FileNotFoundError: No such file or directory" in shown and "line " in shown
    # (There is no source of it; else the lines of the code would be shown, as they are)
    assert "barley" not in shown and "wheat" not in shown and "rye" not in shown


def test_what_others_print_or_fail_to_catch_is_a_line_too() -> None:
    # Given a program that prints, warns, and dies of errors in a thread and outside
    found = lines("""
        import sys, threading, warnings
        print("half a ", end="", file=sys.stderr); print("line", file=sys.stderr)
        warnings.warn("old stones")
        def fail(): raise ValueError("wheat")
        thread = threading.Thread(target=fail); thread.start(); thread.join()
        raise RuntimeError("wheat")
    """)
    # Then each is a JSON line of its own
    assert [(line["logger"], line["level"]) for line in found] == [
        ("stderr", "WARNING"),
        ("py.warnings", "WARNING"),
        ("embedmill", "CRITICAL"),
        ("embedmill", "CRITICAL"),
    ]
    assert found[0]["message"] == "half a line"
    assert found[2]["exception"].endswith("ValueError") and found[3]["exception"].endswith("RuntimeError")


def test_a_line_that_cannot_be_written_shows_no_value_either() -> None:
    (shown,) = lines("""
        class Secret:
            def __str__(self): raise ValueError("wheat")
        logging.getLogger("mill").warning("%s of %s", "barley", Secret())
    """)
    assert shown["message"].endswith("cannot be written")
    assert "barley" not in str(shown) and "wheat" not in str(shown)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_password_or_a_key_in_anothers_line_is_not_passed_on(form: str) -> None:
    shown = told(
        f"""
        logging.getLogger("kombu").error("no route to redis://mill:flour@stone:6379/0, tried with {KEY}")
        """,
        form=form,
    )
    assert "flour" not in shown and KEY not in shown
    assert "redis://***@stone:6379/0" in shown
