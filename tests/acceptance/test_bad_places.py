"""Databases, folders and ports that cannot be used: told at once, with exit code 4 or 2, and nothing half-written."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from embedmill import Client
from storage.contract.ids import new_id
from tests.acceptance.shell import EMBEDMILL, Ran, Shell

#: Runs a program as the same user, without root's right to write where permissions forbid it.
_WITHOUT_ROOTS_RIGHTS = """
import ctypes, os, sys
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; fails where there is nothing to drop
os.execv(sys.argv[1], sys.argv[1:])
"""

#: Megabytes of text that cannot be compressed away.
_MUCH = "\n".join(os.urandom(60).hex() for _ in range(120_000))


def test_an_unreachable_database_is_told_without_its_password(alone: Shell) -> None:
    # Given the address of a PostgreSQL that does not run
    alone.write("in.txt", "a text")
    url = "postgresql://miller:grindstone@127.0.0.1:1/mill"
    # When anything is asked of it
    ran = alone.together([("submit", "in.txt", "--database-url", url), ("migrate", "--database-url", url)])
    # Then that is told, and the password is not
    for one in ran:
        assert (one.code, one.out) == (4, "")
        assert "The database does not answer" in one.err and "EMBEDMILL_DATABASE_URL" in one.err
        assert "grindstone" not in one.err and "Traceback" not in one.err


def test_a_mistyped_place_is_told_and_nothing_is_made_there(alone: Shell) -> None:
    # Given a file and a folder that are not there, because their names are mistyped
    file, folder = alone.cwd / "typo.sqlite3", alone.cwd / "typo"
    alone.write("in.txt", "a text")
    # When a job, or anything else, is asked for there
    job = new_id()
    asked = [("status", job), ("wait", job), ("results", job, "-o", "out.npy"), ("cancel", job), ("delete", job)]
    asked += [("jobs",), ("top", "--once"), ("keys", "list"), ("export", "--all", "-o", "all.tar"), ("retry", job)]
    asked += [("backup", "-o", "copy"), ("fence",), ("purge", "--older-than", "1"), ("compact",)]
    places = itertools.cycle((("--database-url", "sqlite:///typo.sqlite3"), ("--data-dir", folder)))
    ran = alone.together([(*words, *next(places)) for words in asked])
    moved = alone("move", "--from", "sqlite:///typo.sqlite3", "--to", "sqlite:///typo.sqlite3")
    submitted = alone("submit", "in.txt", "--database-url", "sqlite:///typo.sqlite3")
    # Then each names the place it looked at, and what to do; none says that there is no such job
    for one in (*ran, moved, submitted):
        assert (one.code, one.out) == (4, "") and "Traceback" not in one.err, one
        assert "There is no database" in one.err and "embedmill migrate" in one.err, one
        assert str(file) in one.err or str(folder / "embedmill.sqlite3") in one.err, one
    # And nothing was made
    assert [path.name for path in alone.cwd.iterdir()] == ["in.txt"]


def test_a_read_only_data_folder_is_told(alone: Shell) -> None:
    # Given a data folder with a job, and one that is empty, both of which may only be read
    alone.write("in.txt", "a text")
    with Client(data_dir=alone.data_dir) as client:
        client.submit(["another text"])
    empty = alone.cwd / "empty"
    empty.mkdir()
    for path in (*alone.data_dir.iterdir(), alone.data_dir, empty):
        path.chmod(0o400 if path.is_file() else 0o500)
    # When something should be written there
    commands = (("submit", "in.txt"), ("submit", "in.txt", "--data-dir", empty), ("up", "--data-dir", empty))
    ran = [_unprivileged(alone, *words) for words in commands]
    for path in (alone.data_dir, *alone.data_dir.iterdir()):
        path.chmod(0o700)
    # Then each says so and what was there is whole
    for sentence, one in zip(("read-only", "cannot be opened or made", "cannot be written"), ran, strict=True):
        assert (one.code, one.out) == (4, "") and sentence in one.err and "Traceback" not in one.err, one
    assert list(empty.iterdir()) == [] and alone.rows() == (1, 1, 1)


def test_a_data_folder_beyond_its_limit_takes_nothing_half(alone: Shell) -> None:
    # Given a database that may not grow any more
    alone.write("much.txt", _MUCH)
    with Client(data_dir=alone.data_dir) as client:
        assert client.jobs() == []
    limit = f'ulimit -f 1500; exec "{EMBEDMILL}" submit much.txt'
    # When much is submitted
    ran = alone.program("sh", "-c", limit)
    # Then that is told, and no job is there, but for what no write was left to clear away
    assert (ran.code, ran.out) == (4, "")
    assert "cannot be read or written" in ran.err and "Traceback" not in ran.err
    with Client(data_dir=alone.data_dir) as client:
        assert client.jobs() == []
    assert {state for (state,) in alone.query("SELECT state FROM jobs")} <= {"accepting"}


@pytest.mark.parametrize("kilobytes", [100, 8000], ids=["from the start", "in the middle"])
def test_a_full_data_folder_takes_nothing_half(alone: Shell, kilobytes: int) -> None:
    # Given a disk with little room
    alone.data_dir.mkdir()
    _need_own_mounts()
    alone.write("much.txt", _MUCH)
    mount = f'mount -t tmpfs -o size={kilobytes}k tmpfs "{alone.data_dir}"'
    script = f'{mount}; "{EMBEDMILL}" submit much.txt; code=$?; [ {kilobytes} = 100 ] || "{EMBEDMILL}" jobs; exit $code'
    # When more is submitted than there is room for
    ran = alone.program("unshare", "--map-root-user", "--mount", "sh", "-c", script)
    # Then that is told, and no job is there
    assert (ran.code, ran.out) == (4, "")
    assert "The database's disk is full" in ran.err and "Traceback" not in ran.err
    assert kilobytes == 100 or "There are no jobs" in ran.err


def test_an_occupied_port_is_told(alone: Shell) -> None:
    # Given a port that another program listens on
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        # When a stack, or a worker, is to use it
        ran = alone.together([("up", "--port", port), ("worker", "--health-port", port)])
    # Then both say so and stop
    for one in ran:
        assert one.code == 2 and f"Port {port} on 127.0.0.1 cannot be listened on" in one.err
        assert "Traceback" not in one.err


def test_a_second_stack_on_one_data_folder_is_refused(
    stack: tuple[Path, subprocess.Popen[bytes]], shell: Shell
) -> None:
    # Given a running stack, when another is started on its folder
    ran = shell("up", "--port", 0)
    # Then it names the process that is there already, which goes on
    assert ran.code == 2 and f"Process {stack[1].pid} already works on {shell.data_dir}" in ran.err
    assert "Traceback" not in ran.err
    with Client(data_dir=shell.data_dir) as client:
        assert client.submit(["still there"]).wait(60).succeeded == 1


def _unprivileged(shell: Shell, *words: object) -> Ran:
    return shell.program(sys.executable, "-c", _WITHOUT_ROOTS_RIGHTS, EMBEDMILL, *words)


def _need_own_mounts() -> None:
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /tmp"]
    if shutil.which("unshare") is None or subprocess.run(command, capture_output=True, timeout=60).returncode:
        pytest.skip("needs a mount namespace")
