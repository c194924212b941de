"""Starts one pinned worker process per slot and a reconciler, keeps them alive, and stops them in order.

Never imports torch: a device's trouble cannot reach this process.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from storage.contract.errors import EmbedmillError
from storage.contract.models import model_name
from storage.stores import Stores
from worker.child import Child
from worker.chores import Chores
from worker.devices import Slot
from worker.metrics import Metrics
from worker.quarantine import Quarantine
from worker.settings import WorkerSettings
from worker.stop import Stop

logger = logging.getLogger(__name__)

#: Pause between two looks at the children, in seconds.
_TICK = 0.1

#: Beyond the grace that running chunks get, a stopping process has so many seconds to give its leases back.
_LAST_WORDS = 10.0

#: What children need not be told: no passwords, which they read where this process did.
_NOT_TOLD = {"health_port", "health_host", "api_key", "redis_password", "database_password"}

#: On a CPU, keep the memory of one batch for the next, in one heap, instead of giving it back to the kernel each time:
#: 3 %. Not beside a GPU, where the many threads of a tokenizer would wait for that one heap. Where there is no glibc
#: nobody reads it.
ALLOCATOR = ":".join(
    f"glibc.malloc.{name}" for name in ("mmap_max=0", "trim_threshold=2147483647", "top_pad=67108864", "arena_max=1")
)


class Supervisor:
    """Keeps the processes of one worker machine alive.

    Args:
        settings: What to serve; handed to the children through their environment.
        slots: What to pin one process each to.
        program: The module that is run in each.
    """

    def __init__(self, settings: WorkerSettings, slots: list[Slot], program: str = "worker.process") -> None:
        self._settings = settings
        self._stores = Stores.open(settings)
        self._stopped = Stop()
        by_slot = {
            slot.name: Child(
                f"worker on {slot.name}",
                _worker_command(program, slot),
                worker_environment(settings, slot, len(slots)),
                lambda *death: self._chores.bury(*death),
            )
            for slot in slots
        }
        self.workers = list(by_slot.values())
        self._quarantine = Quarantine(self._stores.workers, model_name(settings.model))
        self._chores = Chores(self._stores, self._quarantine, self.workers)
        self._reconciler = Child(
            "reconciler",
            lambda id_: ["-m", "worker.reconciler", id_],
            child_environment(settings),
            lambda _, id_, __: self._chores.resign(id_),
        )
        self._metrics = Metrics(
            self._stores,
            model_name(settings.model),
            by_slot,
            [self._reconciler],
            self._reconciler.measures,
            [slot.gpu for slot in slots if slot.gpu],
        )

    def run(self) -> None:
        """Keep the children alive until `stop` is called, then stop them in order."""
        self._chores.start()
        try:
            while not self._stopped.wait(_TICK):
                self._tend()
        finally:
            logger.info("stopping")
            self._stop([*self.workers, self._reconciler])
            self._chores.finish(_LAST_WORDS)

    def stop(self) -> None:
        """Ask the supervisor to stop; may be called from a signal handler."""
        self._stopped.set()

    def liveness(self) -> tuple[bool, dict[str, str]]:
        """Return that it lives: it answers, and looks after its processes itself."""
        return True, {}

    def readiness(self) -> tuple[bool, dict[str, str]]:
        """Return whether this machine can serve now, and each part's state in words, for `/readyz`."""
        parts = {child.name: "ready" if child.ready else child.error or "starting" for child in self.workers}
        try:
            self._stores.database.check_schema(running=True)
            parts["storage"] = "ready"
        except EmbedmillError as error:
            parts["storage"] = error.message
        ready = parts["storage"] == "ready" and any(child.ready for child in self.workers)
        return ready, parts

    def metrics(self, everything: bool = False) -> bytes:
        """Return what `/metrics` shows.

        Args:
            everything: The installation's figures too.

        Raises:
            StorageUnavailable: When the database cannot be reached, which is asked for everything alone.
        """
        return self._metrics.all() if everything else self._metrics.text()

    def _stop(self, children: list[Child]) -> None:
        for child in children:
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + self._settings.stop_grace + _LAST_WORDS
        while any(child.pid for child in children):
            if time.monotonic() > deadline:
                for child in children:
                    child.signal(signal.SIGKILL)
            for child in children:
                with _whatever_comes(child):
                    child.tend(stopping=True)
            time.sleep(_TICK / 2)

    def _tend(self) -> None:
        for child in (self._reconciler, *self.workers):
            with _whatever_comes(child):
                child.tend(hold=child is not self._reconciler and self._quarantine.holds(child))


@contextmanager
def _whatever_comes(child: Child) -> Iterator[None]:
    """Look after a child in the block."""
    try:
        yield
    except Exception:
        # Whatever it was, the other children need somebody.
        logger.exception("%s cannot be looked after", child.name)


def _worker_command(program: str, slot: Slot) -> Callable[[str], list[str]]:
    return lambda worker_id: ["-m", program, slot.name, slot.torch_device, worker_id]


def child_environment(settings: WorkerSettings) -> dict[str, str]:
    """Return the settings as the variables from which a child reads the same settings again.

    What a file holds may be a secret, such as a URL with its password: whoever may look into a process would see it in
    its environment. Children inherit the variable that names the file.
    """
    given = settings.model_dump(exclude_none=True, exclude=_NOT_TOLD | settings.of_files)
    variables = {f"EMBEDMILL_{name.upper()}": str(value) for name, value in given.items()}
    variables |= {"EMBEDMILL_MODEL": model_name(settings.model), "HF_HUB_DISABLE_TELEMETRY": "1"}
    return variables


def worker_environment(settings: WorkerSettings, slot: Slot, slots: int = 1) -> dict[str, str]:
    """Return the variables of a worker's process: the settings, how it gets memory and threads, and what pins it.

    Args:
        settings: What to serve.
        slot: What it is pinned to.
        slots: How many processes share this machine's cores.
    """
    variables = child_environment(settings)
    if slot.torch_device == "cpu":
        variables["GLIBC_TUNABLES"] = os.environ.get("GLIBC_TUNABLES", ALLOCATOR)
    elif slots > 1:
        # Each GPU's tokenizer would else take all of them.
        share = max(1, len(os.sched_getaffinity(0)) // slots)
        variables["RAYON_NUM_THREADS"] = os.environ.get("RAYON_NUM_THREADS", str(share))
    return variables | slot.environment
