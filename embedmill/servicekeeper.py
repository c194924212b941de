"""Keeps the service's process of a stack alive: page and API, on a socket that outlives each start of it."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable

from producer.api.settings import ApiSettings
from producer.listening import address_of, take_port
from worker.child import Child
from worker.stop import Stop

logger = logging.getLogger(__name__)

#: Pause between two looks at the process, in seconds.
_TICK = 0.1

#: How long it may take to stop, in seconds; then it is killed.
_STOP = 15.0


class ServiceKeeper:
    """Starts the service, starts it again when it dies, stops it in the end.

    Whoever connects while there is no process waits in the socket's queue for the next one.

    Args:
        settings: Where it listens, and who may use it.
        environment: Variables that tell the child the settings it shares with the workers.

    Raises:
        AddressInUse: When the port is taken.
    """

    def __init__(self, settings: ApiSettings, environment: dict[str, str]) -> None:
        self._socket = take_port(settings.host, settings.port)
        self.address = address_of(settings.host, self._socket)
        own = {"HOST": settings.host, "PORT": settings.port, "AUTH": settings.auth}
        own |= {"OPEN_TO_ALL": settings.open_to_all}
        self._environment = environment | {f"EMBEDMILL_{name}": str(value) for name, value in own.items()}
        self._stopping = Stop()
        self._thread: threading.Thread | None = None

    def start(self, machine: str, answering: Callable[[], None]) -> None:
        """Start the process; from now on it is looked after by a thread.

        Args:
            machine: Address of the supervisor's health checks.
            answering: Called once: when it answers, or when it is clear that it does not.
        """
        number = self._socket.fileno()
        command = ["-m", "embedmill.serviceprocess", str(number)]
        child = Child(
            "service",
            lambda id_: [*command, id_],
            self._environment | {"EMBEDMILL_MACHINE": machine},
            lambda *_: 0,
            files=(number,),
        )
        # The kernel ends a child with the thread that started it, so that this thread lasts as long.
        self._thread = threading.Thread(target=self._keep, args=(child, answering), name="service", daemon=True)
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Have it end what is under way and stop; may be called from a signal handler."""
        self._stopping.set()

    def close(self) -> None:
        """Stop, and wait until it has."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self._socket.close()

    def _keep(self, child: Child, answering: Callable[[], None]) -> None:
        told = False
        while not self._stopping.wait(_TICK):
            try:
                child.tend()
                if not told and (child.ready or child.last_end):
                    told = True
                    answering()
            except Exception:
                # Such as an output that nobody reads any more. The kernel ends the service with this thread.
                logger.exception("the service cannot be looked after")
        child.signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP
        while child.pid:
            if time.monotonic() > deadline:
                child.signal(signal.SIGKILL)
            child.tend(stopping=True)
            time.sleep(_TICK / 2)
