"""Ctrl-C in the middle of submit and of wait, and Redis or everything away: nothing is half-accepted, nothing lost."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path

import psutil
import pytest

from embedmill import Client
from tests.acceptance.shell import Shell, interrupt, serving, until
from tests.standstill import standing_still


def test_ctrl_c_in_the_middle_of_submit_leaves_nothing(alone: Shell) -> None:
    # Given a submission that has written much of its input already, and whose input has no end yet
    process = alone.start("submit", "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    for number in range(4):
        process.stdin.write(b"".join(b"text %d of block %d\n" % (i, number) for i in range(40_000)))
    process.stdin.flush()
    until(lambda: alone.rows()[2] > 0, "texts in the database")
    assert alone.query("SELECT DISTINCT state FROM jobs") == [("accepting",)]
    # When interrupted
    ran = interrupt(process)
    # Then nothing was accepted, it says so, and no row is left
    assert (ran.code, ran.out) == (130, "")
    assert "Nothing was accepted" in ran.err and "Traceback" not in ran.err
    assert alone.rows() == (0, 0, 0)


def test_a_submission_that_is_killed_is_never_seen(alone: Shell) -> None:
    # Given a submission in the middle of its input
    process = alone.start("submit", "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(b"".join(b"text %d of many\n" % i for i in range(160_000)))
    process.stdin.flush()
    until(lambda: alone.rows()[0] > 0, "a job in the database")
    # When killed
    process.kill()
    process.communicate()
    # Then no job is listed
    with Client(data_dir=alone.data_dir) as client:
        assert client.jobs() == []


@pytest.mark.timeout(600)  # it starts a stack amid its commands
def test_jobs_wait_for_a_worker_and_are_done_once_one_comes(alone: Shell) -> None:
    # Given a folder where nothing runs, in which somebody keeps a package of their own named `storage`
    (alone.cwd / "storage").mkdir()
    alone.write("storage/__init__.py", "raise RuntimeError('somebody else\\'s storage')")
    alone.write("in.txt", "The wheel waits for water.\n")
    # When submitted, then the job is safe, and it is said what it waits for
    good = alone("submit", "in.txt")
    with Client(data_dir=alone.data_dir) as client:
        impossible = client.submit(["No model is so wide."], dimensions=1000).id
        status = client.job(good.job_id).status()
    assert good.code == 0
    assert "The job is safe and waits for a worker that serves sentence-transformers/all-MiniLM-L6-v2" in good.err
    assert (status.state, status.pending) == ("queued", 1) and "embedmill" in (status.waiting_for or "")
    # When somebody waits and gives up, then the job goes on and they hear how to come back
    waiting = alone.start("wait", good.job_id)
    until(lambda: _says(waiting, b"queued 0 of 1"), "the wait's first line")
    given_up = interrupt(waiting)
    assert given_up.code == 130 and f"Come back with: embedmill wait {good.job_id}" in given_up.err
    assert "Traceback" not in given_up.err
    # When a stack is started on the folder at last, then the job is done
    with serving(alone, "up", "--port", 0, log=alone.cwd / "log"):
        waited, refused = alone.together([("wait", good.job_id), ("wait", impossible)])
        assert waited.code == 0 and "completed 1 of 1" in waited.err
        # And the one that no model can do has failed, and says why
        assert refused.code == 1
        assert "invalid_option: dimensions is 1000, but sentence-transformers/all-MiniLM-L6-v2 has 384" in refused.err
    # And when everything is stopped again, then the results are still there
    fetched = alone("results", good.job_id, "-o", "-", "--output-format", "jsonl")
    assert fetched.code == 0 and len(json.loads(fetched.out)["vector"]) == 384


def test_a_job_submitted_while_redis_is_down_is_safe_and_done_later(
    stack: tuple[Path, subprocess.Popen[bytes]], shell: Shell
) -> None:
    # Given a worker that is alive, a Redis that this submitter cannot reach, and nobody else who would send
    shell.write("in.txt", "The message is lost, the text is not.\n")
    cut_off = Shell(shell.data_dir, shell.cwd, {"EMBEDMILL_REDIS_URL": "redis://127.0.0.1:1/0"})
    children = psutil.Process(stack[1].pid).children()
    [reconciler] = [child for child in children if "worker.reconciler" in child.cmdline()]
    # When submitted
    with standing_still(reconciler.pid, shell.data_dir / "embedmill.sqlite3"):
        ran = cut_off("submit", "in.txt")
    # Then the id is there all the same, and it is said that the job waits
    assert ran.code == 0
    assert "Redis cannot be reached: the job is safe and starts when Redis takes messages again" in ran.err
    # And the reconciler sends it, so that even a waiter without Redis sees its end
    with Client(data_dir=shell.data_dir, redis_url="redis://127.0.0.1:1/0") as client:
        assert client.job(ran.job_id).wait(60).succeeded == 1


def test_the_log_of_a_stack_holds_no_text(stack: tuple[Path, object], shell: Shell) -> None:
    # Given a text that no log may hold
    with Client(data_dir=shell.data_dir) as client:
        client.submit(["xylophone-secret"], ids=["zebra-secret"]).wait(60)
    # Then neither the log nor Redis's file holds it
    told = (stack[0] / "log").read_bytes()
    kept = b"".join(path.read_bytes() for path in (shell.data_dir / "redis").rglob("*") if path.is_file())
    assert b"serving" in told and b"-secret" not in told
    assert b"embed_chunk" in kept and b"-secret" not in kept
    # Nor what its messages carry, which lies there as base64
    carried = b"".join(map(base64.b64decode, re.findall(rb'"body": "([^"]+)"', kept)))
    assert b"job_id" in carried and b"-secret" not in carried


def _says(process: subprocess.Popen[bytes], sentence: bytes) -> bool:
    """Read a line of what a process tells on stderr."""
    assert process.stderr is not None
    return sentence in process.stderr.readline()
