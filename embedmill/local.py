"""Everything on one machine: the embedded Redis server, workers, their reconciler, the service, until told to stop."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from embedmill.redisserver import RedisServer
from embedmill.servicekeeper import ServiceKeeper
from producer.api.settings import ApiSettings
from storage.contract.errors import AlreadyRunning, StorageUnavailable
from worker.devices import Slot
from worker.health import HealthServer
from worker.settings import WorkerSettings
from worker.stop import on_signals
from worker.supervisor import Supervisor, child_environment


def run_stack(
    settings: WorkerSettings, slots: list[Slot], service: ApiSettings | None, started: Callable[[str], None]
) -> None:
    """Run workers, the service, and the embedded Redis server where no other is named, until SIGTERM or SIGINT.

    Args:
        settings: What to serve and where.
        slots: What to pin one worker process each to.
        service: How page and API are served; None: health checks alone, by this process.
        started: Called with the address, without a path, once something answers there; workers may still load.

    Raises:
        AlreadyRunning: When another stack uses the embedded server's data folder.
        AddressInUse: When the port is taken.
        StorageUnavailable: When the database cannot be reached.
    """
    with ExitStack() as stack:
        if settings.redis_is_embedded:
            stack.enter_context(only_one(settings.data_dir))
        # From here on the schema is what it should be.
        supervisor = Supervisor(settings, slots)
        keeper = None
        if service is not None:
            keeper = ServiceKeeper(service, child_environment(settings))
            stack.callback(keeper.close)
        # The service asks for the health of this machine at a port that only this machine reaches.
        host, port = (settings.health_host, settings.health_port or 0) if keeper is None else ("127.0.0.1", 0)
        health = HealthServer(host, port, supervisor)
        health.start()
        stack.callback(health.close)
        if settings.redis_is_embedded:
            server = RedisServer(settings)
            server.start()
            stack.callback(server.stop)

        def stop() -> None:
            supervisor.stop()
            if keeper is not None:
                keeper.ask_to_stop()

        on_signals(stop)
        if keeper is None:
            started(health.url)
        else:
            address = keeper.address
            keeper.start(health.url, lambda: started(address))
        supervisor.run()


@contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Hold a data folder's lock, which the kernel frees when this process ends, however it ends.

    Raises:
        AlreadyRunning: When another process holds it.
        StorageUnavailable: When the folder cannot be written.
    """
    path = data_dir / "up.lock"
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = open(path, "a+")  # noqa: SIM115 - closed below, after everything that needs the lock
    except OSError as error:
        raise StorageUnavailable(
            f"The data folder {data_dir} cannot be written: {error.strerror}.",
            "Choose another with --data-dir or EMBEDMILL_DATA_DIR.",
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            raise AlreadyRunning(
                f"Process {holder} already works on {data_dir}.",
                "Use it, stop it, or choose another folder with --data-dir.",
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
