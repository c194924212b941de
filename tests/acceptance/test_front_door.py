"""The front door: version, help, a package that shadows ours, migrations; and what runs behind it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import psutil

from embedmill import Client
from storage.contract.options import JobOptions
from tests.acceptance.shell import BIN, ROOT, Shell, address, get

COMMANDS = (
    "submit embed status wait jobs results cancel retry delete worker reconcile tokens up api webhooks migrate doctor"
    " top"
)


def test_version_and_help_are_whole_at_the_width_of_ci(alone: Shell) -> None:
    # Given a shell as CI has it: no terminal, and a parser that believes in one
    ci = Shell(alone.data_dir, alone.cwd, {"CI": "true", "GITHUB_ACTIONS": "true"})
    version, help_, submit, alone_ = ci.together([("--version",), ("--help",), ("submit", "--help"), ()])
    # Then every command and every option is named whole
    assert re.fullmatch(r"embedmill \d+\.\d+\.\d+\n", version.out) and version.code == 0
    assert help_.code == submit.code == 0
    assert set(COMMANDS.split()) <= set(_plain(help_.out).split())
    options = {f"--{name.replace('_', '-')}" for name in JobOptions.__dataclass_fields__}
    assert options | {"--data-dir", "--idempotency-key", "--text-field"} <= set(_plain(submit.out).split())
    # And without a command the help comes by itself
    assert alone_.code == 2 and "submit" in _plain(alone_.out + alone_.err)
    assert not alone.data_dir.exists()


def test_a_folder_that_shadows_a_package_of_ours_is_named(alone: Shell) -> None:
    # Given somebody's own package named `storage` where commands are typed
    (alone.cwd / "storage").mkdir()
    alone.write("storage/__init__.py", "raise RuntimeError('somebody else\\'s storage')")
    with Client(data_dir=alone.data_dir):
        pass  # it makes the database
    # When started by its script, then that does not matter
    assert alone("jobs").code == 0
    # When started as a module, for which Python looks into this folder first, then the clash is named
    ran = alone.program(sys.executable, "-m", "embedmill", "jobs")
    assert ran.code == 2 and f"{alone.cwd / 'storage'} shadows" in ran.err and "Traceback" not in ran.err


def test_a_database_of_ones_own_is_migrated_when_told_to(alone: Shell) -> None:
    # Given a database that is not the embedded one
    url = f"sqlite:///{alone.cwd / 'own.sqlite3'}"
    alone.write("in.txt", "a text")
    # When used as it is, then it is said what to run
    early = alone("submit", "in.txt", "--database-url", url)
    assert (early.code, early.out) == (4, "") and "embedmill migrate" in early.err
    assert not (alone.cwd / "own.sqlite3").exists()
    # When migrated, twice, then it can be used
    first, second = (alone("migrate", "--database-url", url) for _ in range(2))
    assert first.code == second.code == 0
    assert "(it was at none)" in first.err and "(it was at none)" not in second.err
    with Client(database_url=url, data_dir=alone.data_dir) as client:
        assert client.submit(["a text"]).status().total == 1
    assert not alone.data_dir.exists()


def test_the_stack_answers_health_checks(stack: tuple[Path, subprocess.Popen[bytes]]) -> None:
    # Given the running stack, when asked for its health
    where = address(stack[0] / "log")
    # Then it lives, and is ready part by part
    assert get(f"{where}/healthz") == (200, {"status": "alive"})
    status, body = get(f"{where}/readyz")
    assert status == 200 and body["storage"] == "ready" and body["status"] == "ready"
    assert get(f"{where}/elsewhere")[0] == 404


def test_the_supervisor_never_loads_torch_and_its_worker_does(stack: tuple[Path, subprocess.Popen[bytes]]) -> None:
    # Given the running stack, when looked at what its processes have loaded
    pid = stack[1].pid
    children = psutil.Process(pid).children(recursive=True)
    # Then only the worker holds torch
    loaded = {" ".join(child.cmdline()): _holds_torch(child.pid) for child in children}
    assert not _holds_torch(pid)
    assert [holds for line, holds in loaded.items() if "worker.process" in line] == [True]
    assert [line for line, holds in loaded.items() if holds and "worker.process" not in line] == []


def test_celery_itself_reaches_the_worker(shell: Shell) -> None:
    # Given the running stack, when Celery's own command asks who is there
    deadline = time.monotonic() + 90
    while True:
        ran = shell.program(BIN / "celery", "-A", "worker.app", "inspect", "ping", cwd=ROOT)
        # (it waits for a second, in which a busy worker may be silent: then it asks again)
        if "pong" in ran.out or time.monotonic() > deadline:
            break
    # Then the worker answers
    assert ran.code == 0 and "pong" in ran.out and "1 node online" in ran.out, ran


def _plain(text: str) -> str:
    """Return a text without colours and frames."""
    return re.sub(r"[│╭╮╰╯─]", " ", re.sub(r"\x1b\[[0-9;]*m", "", text))


def _holds_torch(pid: int) -> bool:
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()
