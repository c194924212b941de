"""`embedmill top` in a real terminal, beside a running stack."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from embedmill import Client
from storage.contract.errors import WrongState
from storage.jobfilter import JobFilter
from tests.acceptance.shell import EMBEDMILL, Shell, address

#: Longest wait for anything to be seen, in seconds.
_PATIENCE = 60.0


@pytest.fixture(autouse=True)
def nothing_else_waits(shell: Shell) -> None:
    """Cancel what other tests have left waiting on this stack: only so many jobs fit on a screen."""
    with Client(data_dir=shell.data_dir) as client:
        jobs = client.stores.jobs
        for job_id in jobs.list_ids(1_000, wanted=JobFilter(states=["queued", "running"])):
            with suppress(WrongState):  # it may have ended by now
                jobs.cancel(job_id)


class Terminal:
    """A terminal of a size, with a command in it.

    Args:
        master: Its other end.
        process: The command.
    """

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self.master = master
        self.process = process
        self.seen = b""

    def wait_for(self, *words: str) -> str:
        """Read until all words have come; forget what came before the last of them."""
        deadline = time.monotonic() + _PATIENCE
        while not all(word.encode() in self.seen for word in words):
            assert time.monotonic() < deadline, f"waited for {words}, saw {self.seen[-3000:]!r}"
            if select.select([self.master], [], [], 0.5)[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:  # the command has ended and its terminal is closed
                    break
        told, self.seen = self.seen.decode(errors="replace"), b""
        assert all(word in told for word in words), told[-3000:]
        return told

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextmanager
def terminal(shell: Shell, *words: object, **variables: str) -> Iterator[Terminal]:
    """Type a command in a terminal of 80 columns and 24 lines."""
    master, slave = pty.openpty()
    told = Terminal(master, None)  # type: ignore[arg-type]
    told.resize(24, 80)
    environment = shell.environment() | {"TERM": "xterm-256color"} | variables
    told.process = subprocess.Popen(
        [EMBEDMILL, *(str(word) for word in words)],
        cwd=shell.cwd,
        env=environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield told
    finally:
        told.process.kill()
        told.process.wait()
        os.close(master)


def test_it_shows_queues_workers_and_jobs_as_they_go_and_obeys_keys(
    stack: tuple[Path, subprocess.Popen[bytes]], shell: Shell
) -> None:
    shell.write("in.txt", "a text\n" * 10)
    job_id = shell("submit", "in.txt", "--wait").job_id
    with terminal(shell, "top", "--interval", 0.2) as seen:
        # Given a terminal, then it takes it over, and all parts are there
        told = seen.wait_for("MODEL", "WORKER", "JOB", "q quit", job_id[-12:])
        assert "\x1b[?1049h" in told and "all-MiniLM-L6-v2" in told and "completed" in told and "cpu on" in told
        # When keys are pressed, then it obeys
        seen.press("s")
        seen.wait_for("sort: fastest")
        seen.press("p")
        seen.wait_for("paused; p goes on")
        seen.press("p")
        seen.wait_for("sort: fastest")
        # When the window grows, then so does the picture, and ids are whole
        seen.resize(30, 130)
        seen.wait_for(job_id)
        # When it is left, then the terminal is as it was
        seen.press("q")
        seen.wait_for("\x1b[?1049l")
        assert seen.process.wait(60) == 0


def test_without_colours_there_are_none_and_ctrl_c_ends_it(
    stack: tuple[Path, subprocess.Popen[bytes]], shell: Shell
) -> None:
    with terminal(shell, "top", NO_COLOR="1") as seen:
        told = seen.wait_for("MODEL", "q quit")
        assert "\x1b[31m" not in told and "\x1b[36m" not in told and "\x1b[1;36m" not in told
        seen.process.send_signal(signal.SIGINT)
        seen.wait_for("\x1b[?1049l")
        assert seen.process.wait(60) == 130


def test_once_and_json_are_for_programs_over_storage_and_over_http(
    stack: tuple[Path, subprocess.Popen[bytes]], shell: Shell, alone: Shell
) -> None:
    shell.write("in.txt", "a text\n")
    job_id = shell("submit", "in.txt", "--wait").job_id
    url = address(stack[0] / "log")
    once, stored, over = shell("top", "--once"), shell("top", "--json"), alone("top", "--url", url, "--json")
    assert once.code == 0 and job_id[-12:] in once.out and "\x1b" not in once.out and "Traceback" not in once.err
    for told in (stored.data, over.data):
        assert [one["device"] for one in told["workers"]] == ["cpu"]
        assert told["queues"][0]["workers"] == 1 and told["queues"][0]["model"].endswith("all-MiniLM-L6-v2")
        assert job_id in [job["id"] for job in told["jobs"]]
    assert _same(stored.data) == _same(over.data)


def _same(told: dict[str, Any]) -> Any:
    """Return what does not change from one look to the next."""
    workers = [(one["device"], one["host"], one["pid"], one["model"]) for one in told["workers"]]
    return workers, [queue["model"] for queue in told["queues"]], [job["id"] for job in told["jobs"]]


def test_where_nothing_runs_it_says_so(alone: Shell) -> None:
    ran = alone("top", "--url", "http://127.0.0.1:1", "--once")
    assert ran.code == 4 and "cannot be reached" in ran.err and "Traceback" not in ran.err
