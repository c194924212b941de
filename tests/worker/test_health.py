"""The two addresses for whoever watches a machine."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request

import pytest

from storage.contract.errors import AddressInUse
from worker.health import HealthServer


def get(port: int, path: str) -> tuple[int, dict[str, str]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize(("ready", "code"), [(True, 200), (False, 503)])
def test_ready_tells_each_part(ready: bool, code: int) -> None:
    server = HealthServer("127.0.0.1", 0, lambda: (ready, {"storage": "ready", "worker on cpu": "starting"}))
    server.start()
    try:
        found = get(server.port, "/readyz")
        assert found[0] == code and found[1]["worker on cpu"] == "starting"
        assert get(server.port, "/healthz")[0] == 200
        assert get(server.port, "/etc/passwd")[0] == 404
    finally:
        server.close()


def test_an_occupied_port_is_told_with_what_to_do() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(AddressInUse, match=rf"Port {port} .*--port"):
            HealthServer("127.0.0.1", port, lambda: (True, {}))
