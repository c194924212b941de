"""What the Helm chart asks the service for, asked of a running one: probes, the figure to scale by, `helm test`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from storage.contract.models import DEFAULT_MODEL
from tests.chart.rendering import named, of_kind, render
from tests.service.serving import Served
from worker.health import HealthServer

_PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


def test_the_service_answers_its_pods_probes(http: httpx.Client) -> None:
    (container,) = named(render(), "Deployment", "-api")["spec"]["template"]["spec"]["containers"]
    for probe in _PROBES:
        assert http.get(container[probe]["httpGet"]["path"]).status_code == 200


def test_a_worker_answers_its_pods_probes() -> None:
    (container,) = named(render(), "Deployment", "-worker-cpu")["spec"]["template"]["spec"]["containers"]

    class Ready:
        def liveness(self) -> tuple[bool, dict[str, str]]:
            return True, {}

        def readiness(self) -> tuple[bool, dict[str, str]]:
            return True, {}

        def metrics(self) -> bytes:
            return b""

    server = HealthServer("127.0.0.1", 0, Ready())
    server.start()
    try:
        for probe in _PROBES:
            path = container[probe]["httpGet"]["path"]
            assert httpx.get(f"http://127.0.0.1:{server.port}{path}", trust_env=False, timeout=60).status_code == 200
    finally:
        server.close()


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16", "int8"])
def test_the_autoscaler_is_told_a_number_where_it_looks_for_one(keyed: Served, dtype: str) -> None:
    # Given what KEDA is told to ask, and a key of the scope that the documentation names
    group = {"name": "cpu", "dtype": dtype, "scaling": {"enabled": True}}
    (trigger,) = named(render({"workers": [group]}), "ScaledObject", "-worker-cpu")["spec"]["triggers"]
    asked = trigger["metadata"]
    address = urlsplit(asked["url"])
    _, key = keyed.service.stores.keys.create("autoscaler", ["read"])
    # When it asks, as `authMode: bearer` has it
    assert asked["authMode"] == "bearer"
    with keyed.http(key) as http:
        answer = http.get(f"{address.path}?{address.query}")
    # Then the figure is where it looks for it, and of the model that the workers have
    found: dict[str, Any] = answer.json()
    assert answer.status_code == 200 and found["model"] == DEFAULT_MODEL
    assert isinstance(found[asked["valueLocation"]], int)


def test_the_chart_s_own_test_passes_on_a_running_service(served: Served) -> None:
    # Given the pod that `helm test` starts
    (pod,) = [one for one in of_kind(render(), "Pod") if one["metadata"]["annotations"]["helm.sh/hook"] == "test"]
    (container,) = pod["spec"]["containers"]
    told = {one["name"]: one["value"] for one in container["env"]} | {"SERVICE": served.url}
    command = [sys.executable, "-c", *container["args"]]
    # When its program runs, then it is content
    ran = subprocess.run(command, env=os.environ | told, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("storage: ready")
    # And with a service of another version it is not
    other = subprocess.run(
        command, env=os.environ | told | {"VERSION": "9.9.9"}, capture_output=True, text=True, timeout=100
    )
    assert other.returncode != 0 and "9.9.9" in other.stderr


def test_the_chart_s_own_test_waits_for_a_service_that_is_only_starting() -> None:
    # Given a service that is not ready when it is asked for the first time, as right after `helm install`
    asked: list[str] = []
    answers = {"/healthz": {"status": "alive"}, "/readyz": {"storage": "ready"}}

    class Starting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            path = self.path.partition("?")[0]
            self.send_response(503 if asked.count(self.path) == 1 else 200)
            self.end_headers()
            self.wfile.write(json.dumps(answers.get(path, {"info": {"version": told["VERSION"]}})).encode())

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Starting)
    Thread(target=server.serve_forever, daemon=True).start()
    (pod,) = [one for one in of_kind(render(), "Pod") if one["metadata"]["annotations"]["helm.sh/hook"] == "test"]
    (container,) = pod["spec"]["containers"]
    told = {one["name"]: one["value"] for one in container["env"]}
    told["SERVICE"] = f"http://127.0.0.1:{server.server_port}"
    # When the test's program asks it, then it asks again, and is content
    command = [sys.executable, "-c", *container["args"]]
    try:
        ran = subprocess.run(command, env=os.environ | told, capture_output=True, text=True, timeout=100)
        assert ran.returncode == 0, ran.stderr
        assert sorted(asked) == sorted(2 * ["/healthz", "/readyz?exclude=workers", "/openapi.json"])
        # And it gives up in the end
        asked.clear()
        gives_up = os.environ | told | {"PATIENCE": "0"}
        assert subprocess.run(command, env=gives_up, capture_output=True, timeout=100).returncode != 0
    finally:
        server.shutdown()
        server.server_close()
