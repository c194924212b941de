"""What a Prometheus server may ask of a worker machine: its processes, what they did and how fast, and its GPUs."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Iterator, Sequence

from storage import exposition
from storage.contract.errors import EmbedmillError
from storage.figures import Figure, Figures
from storage.releases import VERSION
from storage.spreads import Spread
from storage.stores import Stores
from worker import measures
from worker.child import Child
from worker.gpus import Gpus
from worker.measures import COUNTS, STAGES, Measures

#: Values by the labels' values.
_Values = dict[tuple[str, ...], float]

_OF_SLOT = ("slot", "model")


class Metrics:
    """Collects anew at each question.

    Args:
        stores: Where the installation's figures are.
        model: What this machine serves.
        workers: Its worker processes, by slot.
        others: Its other children.
        reconciler: What its reconciler has measured.
        gpus: UUIDs of the GPUs that its processes are pinned to.
    """

    def __init__(
        self,
        stores: Stores,
        model: str,
        workers: dict[str, Child],
        others: Sequence[Child] = (),
        reconciler: Measures | None = None,
        gpus: Collection[str] = (),
    ) -> None:
        self._installation = Figures(stores)
        self._model = model
        self._workers = workers
        self._others = others
        self._reconciler = reconciler or Measures()
        self._gpus = Gpus(gpus)
        #: Of this process, which has children or is a reconciler itself.
        self._role = "supervisor" if others else "reconciler"

    def text(self) -> bytes:
        """Return the machine's figures in Prometheus' text format; no database is asked."""
        return exposition.text(self._machine)

    def all(self) -> bytes:
        """Return those and the whole installation's, for who runs no service that would tell them.

        Raises:
            StorageUnavailable: When the database cannot be reached.
        """
        return exposition.text(self._machine, self._installation.get)

    def _machine(self) -> Iterable[Figure]:
        return [*self._work(), *self._stages(), *self._processes(), *self._gpus.figures()]

    def _work(self) -> Iterator[Figure]:
        ready: _Values = {(slot, self._model): float(child.ready) for slot, child in self._workers.items()}
        yield Figure("embedmill_worker_ready", "1 while the process takes work", "gauge", _OF_SLOT, ready)
        starts: _Values = {(slot, self._model): float(child.starts) for slot, child in self._workers.items()}
        yield Figure("embedmill_worker_starts", "Starts of the process", "counter", _OF_SLOT, starts)
        versions: _Values = {(slot, self._model, VERSION): 1.0 for slot in self._workers}
        yield Figure("embedmill_worker_info", "Its version; always 1", "gauge", (*_OF_SLOT, "version"), versions)
        for name, meaning in COUNTS.items():
            if name.startswith("reconciler"):
                yield Figure(f"embedmill_{name}", meaning, "counter", (), {(): self._reconciler.counts[name]})
            else:
                of: _Values = {
                    (slot, self._model): child.measures.counts[name] for slot, child in self._workers.items()
                }
                yield Figure(f"embedmill_{name}", meaning, "counter", _OF_SLOT, of)

    def _stages(self) -> Iterator[Figure]:
        spreads: dict[tuple[str, ...], Spread] = {
            (slot, self._model, stage): child.measures.stages[stage]
            for slot, child in self._workers.items()
            for stage in STAGES
            if stage in child.measures.stages
        }
        meaning = "Time that a stage took, of one message or one batch"
        yield Figure("embedmill_stage_seconds", meaning, "histogram", (*_OF_SLOT, "stage"), spreads=spreads)

    def _processes(self) -> Iterator[Figure]:
        try:
            import psutil
        except ImportError:
            # A reconciler alone, installed without what workers need: in the api's image.
            return
        pids = {self._role: os.getpid()}
        pids |= {child.name: child.pid for child in (*self._workers.values(), *self._others) if child.pid}
        memory: _Values = {}
        seconds: _Values = {}
        for name, pid in pids.items():
            try:
                process = psutil.Process(pid)
                with process.oneshot():
                    memory[(name,)] = float(process.memory_info().rss)
                    times = process.cpu_times()
                    seconds[(name,)] = times.user + times.system
            except psutil.Error:
                # It has just ended.
                continue
        label = ("process",)
        yield Figure("embedmill_process_memory_bytes", "Resident memory of a process", "gauge", label, memory)
        meaning = "Processor time of the process that runs now"
        yield Figure("embedmill_process_cpu_seconds", meaning, "counter", label, seconds)


#: Seconds after which a reconciler's loop hangs: a sweep waits for servers that are away, and purges in small steps.
MOST_SILENT = 300.0


class WatchedReconciler:
    """What is told of a reconciler that runs by itself.

    Args:
        stores: The truth.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._metrics = Metrics(stores, "", {}, reconciler=measures.here)
        self._ticked = time.monotonic()

    def tick(self) -> None:
        """Note a sign of life of its loop."""
        self._ticked = time.monotonic()

    def liveness(self) -> tuple[bool, dict[str, str]]:
        """Return whether its loop goes round; nobody else watches one that runs by itself."""
        silent = time.monotonic() - self._ticked
        if silent < MOST_SILENT:
            return True, {}
        return False, {"reconciler": f"its loop has stood still for {silent:.0f} s"}

    def readiness(self) -> tuple[bool, dict[str, str]]:
        """Return whether it can do its duty now, and why not."""
        try:
            self._stores.database.check_schema(running=True)
        except EmbedmillError as error:
            return False, {"storage": error.message}
        return True, {"storage": "ready"}

    def metrics(self, everything: bool = False) -> bytes:
        """Return its figures, or everything: the installation's too.

        Raises:
            StorageUnavailable: When the database cannot be reached, which is asked for everything alone.
        """
        return self._metrics.all() if everything else self._metrics.text()
