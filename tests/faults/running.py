"""Starts a mill with all its servers and processes, and in the end has it judged and stopped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from storage.database import Database
from storage.migrations import migrate
from tests.faults.encoder import CARD
from tests.faults.mill import Mill
from tests.faults.proxy import Proxy
from tests.faults.servers import RedisMachine
from tests.machines.pgbouncer import running_pgbouncer
from tests.servers import running_postgres, short_folder
from tests.stack import free_port

#: What is committed must outlive an immediate restart of the server, as in production; the other tests do without.
_POSTGRES = ("max_connections=100", "synchronous_commit=on")


@contextmanager
def running_mill(
    kind: str = "sqlite",
    *,
    workers: int = 1,
    slots: int = 1,
    lease: float = 2.0,
    pause: float = 0.0,
    good_life: float | None = None,
    proxy_redis: bool = False,
    proxy_database: bool = False,
    pooled: bool = False,
    redis_options: dict[str, str] | None = None,
    redis_keeps_data: bool = True,
    postgres_settings: tuple[str, ...] = (),
    made: Callable[[Database], None] = migrate,
    role: str | None = None,
    **environment: str,
) -> Iterator[Mill]:
    """Start a mill; in the end heal it, wait until all is done, have the oracle judge, and stop everything.

    Args:
        kind: `sqlite` or `postgresql`.
        workers: Number of supervisors.
        slots: Worker processes of each.
        lease: How long a silent worker keeps its chunks, in seconds.
        pause: How long each call of the encoder takes, in seconds.
        good_life: After how many seconds a death counts as the first one again; None: as in production.
        proxy_redis: Whether a proxy stands between the processes and Redis.
        proxy_database: Whether one stands between them and PostgreSQL.
        pooled: Whether PgBouncer does, which hands each transaction to another of few connections.
        redis_options: More of Redis' settings.
        redis_keeps_data: Whether Redis knows after a restart what it knew before.
        postgres_settings: More of PostgreSQL's settings.
        made: Makes the schema, and whatever is to be there from the beginning.
        role: PostgreSQL's role of the processes; None: they are the administrator.
        **environment: Variables of every process.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(short_folder())
        redis = RedisMachine(folder, redis_keeps_data, redis_options)
        stack.callback(redis.kill)
        redis.start()
        postgres, database = None, f"sqlite:///{folder / 'mill.sqlite3'}"
        if kind == "postgresql":
            postgres = stack.enter_context(running_postgres(free_port(), *_POSTGRES, *postgres_settings))
            postgres.execute("CREATE DATABASE mill")
            database = postgres.url("mill")
        opened = Database(database)
        made(opened)
        opened.close()
        mill = Mill(folder, redis, postgres, database)
        mill.plain.install_log()
        redis_url, reached = redis.url, postgres.url("mill", postgres.port) if postgres else database
        if proxy_redis:
            mill.redis_proxy = Proxy(redis.port)
            stack.callback(mill.redis_proxy.close)
            redis_url = f"redis://127.0.0.1:{mill.redis_proxy.port}/0"
        if proxy_database:
            assert postgres is not None and postgres.port is not None, "SQLite is not reached through a network"
            mill.database_proxy = Proxy(postgres.port)
            stack.callback(mill.database_proxy.close)
            reached = postgres.url("mill", mill.database_proxy.port)
        if pooled:
            assert postgres is not None, "SQLite needs no pooler"
            reached = stack.enter_context(running_pgbouncer(postgres, pool=4)).url("mill")
        if role is not None:
            reached = reached.replace("postgres@", f"{role}@", 1)
        mill.environment = {
            "EMBEDMILL_DATABASE_URL": reached,
            "EMBEDMILL_REDIS_URL": redis_url,
            "EMBEDMILL_DATA_DIR": str(folder / "data"),
            "EMBEDMILL_MODEL": CARD.name,
            "EMBEDMILL_LEASE_SECONDS": str(lease),
            "EMBEDMILL_STOP_GRACE": "1",
            "EMBEDMILL_FAILPOINTS": str(mill.shots.folder),
            "FAULTS_LEDGER": str(mill.ledger.path),
            "FAULTS_SLOTS": str(slots),
            "FAULTS_PAUSE": str(pause),
            **({} if good_life is None else {"FAULTS_GOOD_LIFE": str(good_life)}),
            **environment,
        }
        try:
            for _ in range(workers):
                mill.start_supervisor()
            mill.wait_for(lambda: mill.ready_workers() == workers * slots, what="all workers to be ready")
            yield mill
            mill.finish()
        except BaseException:
            _keep(mill)
            raise
        finally:
            mill.close()


def _keep(mill: Mill) -> None:
    """Show the logs of what failed, and keep everything where `FAULTS_KEEP` names a folder."""
    print(mill.tails(4000))
    if kept := os.environ.get("FAULTS_KEEP"):
        shutil.copytree(mill.folder, Path(kept) / mill.folder.name, ignore=shutil.ignore_patterns("*.sock"))
