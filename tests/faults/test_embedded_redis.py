"""The embedded Redis-protocol server of one machine: it comes back, also where it could not be started at once."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import redis

from embedmill import redisserver
from storage.contract.errors import QueueUnavailable
from storage.contract.settings import Settings
from tests.engine.watched import until


def test_a_server_that_ended_comes_back_although_no_process_was_to_be_had_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a server, and a machine that has no room for a process, twice
    settings, spawn, refused = Settings(data_dir=tmp_path), subprocess.Popen, []
    server = redisserver.RedisServer(settings)
    monkeypatch.setattr(redisserver, "_WATCH", 0.02)
    server.start()

    def scarce(*arguments: Any, **options: Any) -> Any:
        if len(refused) < 2:
            refused.append(1)
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        return spawn(*arguments, **options)

    monkeypatch.setattr(redisserver.subprocess, "Popen", scarce)
    client = redis.Redis(unix_socket_path=str(settings.redis_socket))
    first = int(client.info("server")["process_id"])
    # When it is killed
    os.kill(first, signal.SIGKILL)
    # Then another answers in its place, once there is room
    until(lambda: _answers(client) and int(client.info("server")["process_id"]) != first)
    assert len(refused) == 2
    client.close()
    server.stop()


def test_a_server_that_cannot_read_what_it_kept_starts_empty(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Given a server that has kept messages, and whose file a power cut has left damaged
    settings = Settings(data_dir=tmp_path)
    server = redisserver.RedisServer(settings)
    server.start()
    client = redis.Redis(unix_socket_path=str(settings.redis_socket))
    client.lpush("queue", "a message")
    server.stop()
    (kept,) = (tmp_path / "redis" / "appendonlydir").glob("*.incr.aof")
    kept.write_bytes(kept.read_bytes() + b"\0" * 4096 + b"*2\r\n")
    # When it is started again
    server = redisserver.RedisServer(settings)
    server.start()
    # Then it answers, and what could not be read lies beside it
    assert client.llen("queue") == 0
    assert (tmp_path / "redis" / "appendonlydir.unreadable" / kept.name).exists()
    assert "it starts empty" in caplog.text
    client.close()
    server.stop()


def test_a_server_listens_in_no_folder_that_others_write_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a data folder of a long path, whose socket's folder somebody has made before, open to all
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    settings = Settings(data_dir=tmp_path / ("x" * 100))
    settings.redis_socket.parent.mkdir()
    settings.redis_socket.parent.chmod(0o777)
    # When the server is started, then it is refused with what to do, and nothing listens there
    with pytest.raises(QueueUnavailable, match="Remove it, or choose a data folder"):
        redisserver.RedisServer(settings).start()
    assert not settings.redis_socket.exists()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
