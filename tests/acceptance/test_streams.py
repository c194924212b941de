"""Outputs that are closed, or that cannot write every letter: nothing fails for it, and nothing is lost."""

from __future__ import annotations

import re

import pytest

from embedmill import Client
from tests.acceptance.shell import EMBEDMILL, Ran, Shell, interrupt, until


def _closed(shell: Shell, *words: object, descriptor: int = 1) -> Ran:
    """Type a command with one of its streams closed."""
    return shell.program("sh", "-c", f'exec "$0" "$@" {descriptor}>&-', EMBEDMILL, *words)


def test_the_id_of_a_job_is_told_where_standard_output_is_closed(alone: Shell) -> None:
    # Given a closed stdout, when something is submitted
    alone.write("in.txt", "a text")
    ran = _closed(alone, "submit", "in.txt")
    # Then the job is accepted, and its id is not lost
    assert ran.code == 0
    [(job,)] = alone.query("SELECT id FROM jobs")
    assert f"job {job}" in ran.err
    # And tables that nobody sees are no failure
    for words in (["status", job], ["jobs"], ["keys", "list"], ["top", "--once"]):
        shown = _closed(alone, *words)
        assert (shown.code, shown.out) == (0, "") and "Traceback" not in shown.err, (words, shown)
    # Nor is it one where people are told nothing
    silent = _closed(alone, "results", job, "-o", "out.npy", descriptor=2)
    assert (silent.code, silent.out, silent.err) == (2, "", "")


@pytest.mark.parametrize(
    ("words", "rows"),
    [(["keys", "create", "miller"], "SELECT * FROM keys"), (["webhooks", "secret"], "SELECT * FROM webhook_secrets")],
)
def test_what_is_shown_once_is_not_made_where_nobody_would_see_it(alone: Shell, words: list[str], rows: str) -> None:
    # Given a database
    with Client(data_dir=alone.data_dir):
        pass
    # When a secret is asked for with a closed stdout
    ran = _closed(alone, *words)
    # Then that is refused, and there is none
    assert ran.code == 2 and "Standard output is closed" in ran.err and "Traceback" not in ran.err
    assert alone.query(rows) == []


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_names_are_told_in_every_encoding(alone: Shell, encoding: str) -> None:
    # Given a job with a Japanese name, and a terminal that has other letters
    with Client(data_dir=alone.data_dir) as client:
        job = client.submit(["a text"], name="水車").id
    shell = Shell(alone.data_dir, alone.cwd, {"PYTHONIOENCODING": encoding})
    # When it is shown, then all of it is, the name in other words
    for words in (["status", job], ["jobs"]):
        ran = shell(*words)
        assert ran.code == 0 and job in ran.out and r"\u6c34\u8eca" in ran.out, ran


def test_an_embed_whose_job_is_cancelled_says_that_nothing_was_written(alone: Shell) -> None:
    # Given somebody who waits for vectors that nobody makes
    with Client(data_dir=alone.data_dir):
        pass  # it makes the database
    alone.write("in.txt", "a text")
    process = alone.start("embed", "in.txt", "-o", "out.npy")
    until(lambda: alone.rows()[0] == 1 and alone.query("SELECT state FROM jobs") == [("queued",)], "the job")
    # When somebody else cancels the job
    [(job,)] = alone.query("SELECT id FROM jobs")
    assert alone("cancel", job).code == 0
    out, err = process.communicate(timeout=60)
    # Then it is said that there is no file
    assert (process.returncode, out) == (1, b"")
    assert b"The job has ended as cancelled: nothing was written." in err
    assert not (alone.cwd / "out.npy").exists()


def test_what_is_advised_names_the_place_that_was_named(alone: Shell) -> None:
    # Given a database in a folder with a blank in its name, and no variable that names it
    place = alone.cwd / "the mill"
    alone.write("in.txt", "a text")
    submitted = alone("submit", "in.txt", "--data-dir", place)
    # When its results are asked for too early, and waited for too short
    early = alone("results", submitted.job_id, "-o", "out.npy", "--data-dir", place)
    short = alone("wait", submitted.job_id, "--timeout", 0.1, "--data-dir", place)
    made = alone("keys", "create", "miller", "--data-dir", place)
    # Then what is advised can be pasted
    advised = f"embedmill wait {submitted.job_id} --data-dir '{place}'"
    assert advised in early.err and advised in short.err
    revoke = re.search(r"Revoke it with: embedmill (keys revoke .*)\n", made.err)
    assert revoke and alone.program("sh", "-c", f"{EMBEDMILL} {revoke[1]}").code == 0
    # And whoever gives up hears the same
    process = alone.start("wait", submitted.job_id, "--data-dir", place, bufsize=0)
    assert process.stderr is not None and b"queued" in process.stderr.readline()
    assert advised in interrupt(process).err
