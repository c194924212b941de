"""`api`, and the service under `up`: addresses, refusals, and a process that dies and comes again."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.acceptance.shell import Shell, address, interrupt, until
from tests.service.receiver import receiving


def test_a_stack_serves_page_api_and_health_on_one_port(stack: tuple[Path, subprocess.Popen[bytes]]) -> None:
    # Given the running stack, when what it printed is called
    log = stack[0] / "log"
    where = address(log)
    # Then the API answers there, and the health of this machine
    assert f"Page and API: {where}" in log.read_text()
    assert httpx.get(f"{where}/openapi.json", timeout=60).json()["info"]["title"] == "Embedmill"
    ready = httpx.get(f"{where}/readyz", timeout=60).json()
    assert (ready["status"], ready["worker on cpu"]) == ("ready", "ready")


def test_a_service_that_is_killed_comes_again_on_the_same_port(stack: tuple[Path, subprocess.Popen[bytes]]) -> None:
    # Given the running stack
    where = address(stack[0] / "log")
    service = _service(stack[1].pid)
    # When its service is killed
    service.kill()
    until(lambda: not service.is_running() or service.status() == psutil.STATUS_ZOMBIE, "its death")
    # Then whoever asks meanwhile waits for the next one, and is answered
    assert httpx.get(f"{where}/healthz", timeout=60).status_code == 200
    assert _service(stack[1].pid).pid != service.pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_service_alone_answers_and_stops_in_order(alone: Shell, number: signal.Signals) -> None:
    # Given a service where nothing else runs
    process = alone.start("api", "--port", 0)
    assert process.stderr is not None
    line = json.loads(process.stderr.readline())["message"]
    assert line.startswith("Embedmill answers at http://127.0.0.1:"), line
    where = line.split()[3]
    # When asked, then it lives, and says that no worker is there
    assert httpx.get(f"{where}/healthz", timeout=60).status_code == 200
    assert httpx.get(f"{where}/readyz", timeout=60).json()["worker"] == "none serves a model"
    # When told to stop, then it does so without a complaint
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0 and b"Traceback" not in err, err


def test_nobody_is_let_in_from_elsewhere_without_keys_unless_that_is_said_twice(alone: Shell) -> None:
    # Given addresses beyond this machine
    half = ["--host", "0.0.0.0", "--port", 0]
    # When said less than twice, then both commands refuse and say what to do
    commands = [("api", *half), ("up", *half), ("api", *half, "--auth", "none"), ("api", *half, "--open-to-all")]
    for ran in alone.together(commands):
        assert ran.code == 2 and "without keys" in ran.err and "--open-to-all" in ran.err, ran
    assert not alone.data_dir.exists()
    # When said twice, or with keys, then it starts
    for words in (("--auth", "none", "--open-to-all"), ("--auth", "keys")):
        process = alone.start("api", *half, *words)
        assert process.stderr is not None and b"Embedmill answers at http://0.0.0.0:" in process.stderr.readline()
        assert interrupt(process).code == 0


def test_a_taken_port_is_told(alone: Shell) -> None:
    # Given a port that another program listens on
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        # When the service is to use it
        ran = alone("api", "--port", port)
    # Then it says so
    assert ran.code == 2 and f"Port {port} on 127.0.0.1 cannot be listened on" in ran.err and "Traceback" not in ran.err


def test_without_the_packages_of_the_service_that_is_told_and_the_stack_serves_its_health(alone: Shell) -> None:
    # Given an installation without uvicorn
    alone.write("sitecustomize.py", "import sys\nsys.modules['httptools'] = None\n")
    bare = Shell(alone.data_dir, alone.cwd, {"PYTHONPATH": str(alone.cwd)})
    # When the service is started, then it is said what to install
    ran = bare("api")
    assert ran.code == 2 and "pip install 'embedmill[api]'" in ran.err, ran


def test_the_end_of_a_job_is_told_although_the_service_was_killed_while_it_told_it(alone: Shell) -> None:
    # Given a job whose end is to be told to somebody who takes the message and does not answer
    with receiving() as receiver:
        receiver.silent.set()
        own = Shell(alone.data_dir, alone.cwd, {"EMBEDMILL_WEBHOOK_HOSTS": f"127.0.0.1:{receiver.port}"})
        first, where = _started(own)
        body = {"texts": ["a text"], "webhook": {"url": receiver.url}}
        job_id = httpx.post(f"{where}/v1/jobs", json=body, timeout=60).json()["id"]
        assert httpx.post(f"{where}/v1/jobs/{job_id}/cancel", timeout=60).status_code == 200
        until(lambda: receiver.told, "the first try")
        # When the service is killed in the middle of it, and another is started
        first.kill()
        first.communicate()
        receiver.silent.clear()
        second, where = _started(own)
        # Then it tells the same message again
        until(lambda: _webhook(where, job_id)["state"] == "delivered", "the delivery", 90)
        ids = {headers["webhook-id"] for _, headers, _ in receiver.told}
        assert len(receiver.told) >= 2 and len(ids) == 1
        assert interrupt(second).code == 0
    # And its secret is made and shown on the command line
    shown = own("webhooks", "secret")
    assert shown.code == 0 and re.fullmatch(r"whsec_[A-Za-z0-9+/=]{44}\n", shown.out), shown
    # And none for a key that is not there
    refused = own("webhooks", "secret", "--key", "nobody")
    assert refused.code == 2 and "There is no key" in refused.err and refused.out == ""


def _started(shell: Shell) -> tuple[subprocess.Popen[bytes], str]:
    process = shell.start("api", "--port", 0)
    assert process.stderr is not None
    return process, json.loads(process.stderr.readline())["message"].split()[3]


def _webhook(where: str, job_id: str) -> dict[str, Any]:
    [webhook] = httpx.get(f"{where}/v1/jobs/{job_id}/webhooks", timeout=60).json()["data"]
    assert isinstance(webhook, dict)
    return webhook


def _service(parent: int) -> psutil.Process:
    children = psutil.Process(parent).children(recursive=True)
    [service] = [child for child in children if "embedmill.serviceprocess" in child.cmdline()]
    return service
