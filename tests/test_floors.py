"""The floors hold at run time too: what each side has imported after it was really used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_REPORT = "print(*sorted({name.partition('.')[0] for name in sys.modules} | set(sys.modules)))"

_PRODUCER = """
import sys, embedmill, embedmill.cli, producer.cli, producer.job, producer.readers, producer.exports
with embedmill.Client(data_dir=sys.argv[1]) as client:
    job = client.submit(["a text"])
    job.status(), job.cancel(), list(job.results())
"""

_OVER_HTTP = """
import sys, embedmill
from storage.contract.errors import ServiceUnavailable
try:
    # Port 9 is nobody's.
    with embedmill.Client("http://127.0.0.1:9", api_key="em_a_b", retry_for=0) as client:
        client.submit(["a text"] * 300_000)
except ServiceUnavailable:
    import producer.remote.job
"""

_SUPERVISOR = """
import sys, embedmill.local, worker.cli, worker.devices, worker.reconciler
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor
worker.cli.check_installed()
worker.cli.check_model(WorkerSettings.load().model, None)
settings = WorkerSettings.load(data_dir=sys.argv[1])
supervisor = Supervisor(settings, worker.devices.choose_slots("cpu", worker.devices.find_gpus()))
supervisor.readiness()
"""

_STORAGE = """
import sys, pkgutil, importlib, storage
for module in pkgutil.walk_packages(storage.__path__, "storage."):
    if not module.name.endswith("migrations.env"):
        importlib.import_module(module.name)
"""


@pytest.mark.parametrize(
    ("program", "present", "absent"),
    [
        pytest.param(
            _PRODUCER,
            {"producer.submission", "storage.jobs"},
            {"torch", "transformers", "tokenizers", "celery.worker", "worker", "fastapi", "pyarrow"},
            id="the producer's side, used by a client",
        ),
        pytest.param(
            _OVER_HTTP,
            {"producer.remote.upload", "httpx"},
            {"sqlalchemy", "alembic", "redis", "celery", "kombu", "torch", "worker", "fastapi", "producer.client"},
            id="the producer's side over HTTP",
        ),
        pytest.param(
            _SUPERVISOR,
            {"worker.supervisor", "worker.engine.checkpoint"},
            {"torch", "transformers", "fastapi"},
            id="the supervisor, after it has checked the model",
        ),
        pytest.param(
            _STORAGE,
            {"storage.leases", "storage.contract.broker"},
            {"celery", "torch", "transformers", "fastapi", "producer", "worker", "embedmill"},
            id="storage, every module of it",
        ),
    ],
)
def test_a_floor_imports_nothing_from_above_it(
    program: str, present: set[str], absent: set[str], tmp_path: Path
) -> None:
    # Given a fresh interpreter, when this side is used
    command = [sys.executable, "-c", f"{program}\n{_REPORT}", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    # Then it holds its own modules and none of the others
    imported = set(ran.stdout.split())
    assert present <= imported
    assert not absent & imported
