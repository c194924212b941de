"""What a worker machine tells a Prometheus server."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from storage import counters, fullness
from storage.contract.errors import StorageFull
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.faults import translated
from storage.stores import Stores
from tests.acceptance.shell import Shell, address, until
from tests.faults.smalldisk import small_disk
from tests.servers import short_folder
from tests.stack import children
from tests.storage.builders import CARD, serve, submit
from tests.worker.fakenvml import FakeNvml
from worker import exits, measures
from worker.child import Child
from worker.devices import Gpu, choose_slots, visible
from worker.measures import COUNTS, Measures
from worker.metrics import Metrics
from worker.parent import PIPE_VARIABLE
from worker.process import Process
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor

#: A child that measures something, tells it, and waits for its end.
_PROGRAM = """
import time
from worker import measures
from worker.parent import Supervisor
measures.here.count(batches=2, batch_tokens=100)
measures.here.took("forward", 0.2)
Supervisor().beat_for_ever()
time.sleep(600)
"""


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml("Millstone 9", "Millstone 10")
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


@pytest.fixture
def child() -> Iterator[Child]:
    """A worker's place in a supervisor; its process is not started."""
    child = Child("worker on cpu", lambda _: ["-c", _PROGRAM], {}, lambda *_: 0)
    yield child
    child.signal(9)  # type: ignore[arg-type]
    while child.pid:
        child.tend(stopping=True)


def told(metrics: Metrics, everything: bool = False) -> dict[str, float]:
    text = (metrics.all() if everything else metrics.text()).decode()
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_everything_tells_defences_chunks_and_workers_too(stores: Stores, child: Child) -> None:
    # Given a worker, a job of three chunks of which one is at work, and a defence that was needed twice
    counters.take()
    worker = serve(stores)
    job_id = submit(stores, chunks=3)
    stores.leases.claim(Pointer(job_id, 0), worker, CARD.id, 0)
    counters.count("commits_late", 2)
    stores.counters.flush()
    # When somebody asks for everything
    metrics = Metrics(stores, CARD.name, {"cpu": child})
    found = told(metrics, everything=True)
    # Then all of it is told, zeros too, and no text
    assert found["embedmill_commits_late_total"] == 2
    assert found["embedmill_invariants_broken_total"] == 0
    assert found['embedmill_chunks{state="pending"}'] == 2
    assert found['embedmill_chunks{state="leased"}'] == 1
    assert found[f'embedmill_workers{{model="{CARD.name}",precision="{CARD.precision}"}}'] == 1
    assert "wheat" not in str(found)
    # And the machine alone asks no database
    stores.database.close()
    assert "embedmill_commits_late_total" not in told(metrics)


def test_what_each_start_of_a_process_measures_is_added_up(stores: Stores, child: Child) -> None:
    # Given a worker process that tells what it measured, dies, and is started again
    metrics = Metrics(stores, CARD.name, {"cpu": child})
    of = f'model="{CARD.name}",slot="cpu"'
    assert told(metrics)[f"embedmill_batches_total{{{of}}}"] == 0
    for start in (1, 2):
        while child.measures.counts["batches"] < 2 * start:
            child.tend()
        found = told(metrics)
        assert found['embedmill_process_memory_bytes{process="worker on cpu"}'] > 1_000_000
        assert child.pid in children(os.getpid())
        child.signal(9)  # type: ignore[arg-type]
    # Then counts and durations are those of both
    assert found[f"embedmill_batches_total{{{of}}}"] == 4
    assert found[f"embedmill_batch_tokens_total{{{of}}}"] == 200
    assert found[f"embedmill_worker_starts_total{{{of}}}"] == 2
    classes = [value for name, value in found.items() if name.startswith("embedmill_stage_seconds_bucket")]
    assert classes == [0, 0, 0, 0, 2, 2, 2, 2, 2, 2]
    assert found[f'embedmill_stage_seconds_sum{{{of},stage="forward"}}'] == pytest.approx(0.4)


def test_measures_are_told_once_and_a_beat_of_theirs_fits_into_one_write() -> None:
    # Given all that can be measured, as large as it gets
    measures = Measures()
    measures.count(**{name: 123_456_789_012_345.678 for name in COUNTS})
    for stage in ("claim", "read", "tokenize", "forward", "copy", "write"):
        for power in range(-5, 5):
            measures.took(stage, 1.23456789 * 10**power)
    taken = measures.take()
    # Then it is shorter than what a pipe takes whole, is told once, and adds up to the same again
    assert len(json.dumps(taken)) < 2048 and measures.take() == {}
    measures.merge(taken)
    measures.merge(taken)
    assert measures.counts["batches"] == 2 * 123_456_789_012_345.678
    assert sum(measures.stages["copy"].counts) == 20
    assert PIPE_VARIABLE not in os.environ


def test_gpus_tell_what_they_do_and_their_absence_is_no_error(stores: Stores, child: Child, nvml: FakeNvml) -> None:
    # Given two GPUs whose load changes
    metrics = Metrics(stores, CARD.name, {"cuda:0": child}, gpus=["GPU-0", "GPU-1"])
    assert told(metrics)['embedmill_gpu_utilization_ratio{gpu="1"}'] == 0.5
    nvml.load[1], nvml.used[1] = 100, 79_000
    found = told(metrics)
    assert found['embedmill_gpu_utilization_ratio{gpu="1"}'] == 1.0
    assert found['embedmill_gpu_memory_used_bytes{gpu="1"}'] == 79_000
    assert found['embedmill_gpu_memory_bytes{gpu="0"}'] == 80_000
    assert found['embedmill_gpu_power_watts{gpu="0"}'] == 250
    assert found['embedmill_gpu_info{gpu="0",name="Millstone 9",uuid="GPU-0"}'] == 1
    # When one reading cannot be had, then the others are told
    nvml.without_power = True
    found = told(metrics)
    assert 'embedmill_gpu_power_watts{gpu="0"}' not in found and 'embedmill_gpu_memory_bytes{gpu="0"}' in found
    # When one falls off the bus, then the other is told
    nvml.lost = {0}
    found = told(metrics)
    assert 'embedmill_gpu_memory_bytes{gpu="1"}' in found and 'embedmill_gpu_memory_bytes{gpu="0"}' not in found
    nvml.lost = set()
    # When the driver goes away and comes back, then so do they
    nvml.there = False
    assert not [name for name in told(metrics) if "gpu_" in name]
    nvml.there = True
    assert 'embedmill_gpu_memory_bytes{gpu="0"}' in told(metrics)


def test_a_driver_that_hangs_keeps_one_question_waiting_and_no_other(
    stores: Stores, child: Child, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a driver that does not answer
    answers, asked = threading.Event(), threading.Event()

    def hang() -> int:
        asked.set()
        answers.wait(60)
        return 0

    monkeypatch.setattr(nvml, "nvmlDeviceGetCount", hang)
    metrics = Metrics(stores, CARD.name, {"cuda:0": child}, gpus=["GPU-0"])
    waiting = threading.Thread(target=metrics.text)
    waiting.start()
    assert asked.wait(60)
    # When somebody else asks, then the rest is told
    found = told(metrics)
    assert not [name for name in found if "gpu_" in name] and found
    assert waiting.is_alive()
    answers.set()
    waiting.join(60)


def test_without_the_package_there_are_no_gpus(stores: Stores, child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    metrics = Metrics(stores, CARD.name, {"cuda:0": child}, gpus=["GPU-0"])
    assert not [name for name in told(metrics) if "gpu_" in name]


@pytest.mark.parametrize(
    ("named", "wanted", "there"),
    [
        ("1", "auto", {"1"}),
        ("GPU-0", "auto", {"0"}),
        ("0,1", "cuda:1", {"1"}),
        ("0,1", "cpu", set()),
        ("", "auto", set()),
    ],
)
def test_gpus_of_others_are_none_of_ours(
    migrated_sqlite: Path,
    tmp_path: Path,
    nvml: FakeNvml,
    monkeypatch: pytest.MonkeyPatch,
    named: str,
    wanted: str,
    there: set[str],
) -> None:
    # Given a machine of two GPUs, of which the environment or the settings leave a worker some
    gpus = visible([Gpu(0, "GPU-0"), Gpu(1, "GPU-1")], named)
    path = shutil.copy(migrated_sqlite, tmp_path / "mill.sqlite3")
    supervisor = Supervisor(WorkerSettings.load(database_url=f"sqlite:///{path}"), choose_slots(wanted, gpus))
    # When asked, then it tells of those alone
    with closing(supervisor._stores.database):
        found = supervisor.metrics().decode()
    assert set(re.findall(r'embedmill_gpu_memory_used_bytes{gpu="(\d+)"}', found)) == there


def test_of_a_part_of_a_gpu_the_machine_s_gpus_are_told(stores: Stores, child: Child, nvml: FakeNvml) -> None:
    metrics = Metrics(stores, CARD.name, {"cuda:0": child}, gpus=["MIG-1"])
    assert {'embedmill_gpu_memory_bytes{gpu="0"}', 'embedmill_gpu_memory_bytes{gpu="1"}'} <= told(metrics).keys()


def test_a_reconciler_by_itself_tells_what_it_does(tmp_path: Path) -> None:
    # Given a reconciler that runs alone, with a port to be watched at
    shell = Shell(tmp_path / "data", tmp_path)
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = shell.start("reconcile", "--health-port", 0, stdout=output, stderr=output)
    try:
        until(lambda: b"/readyz" in log.read_bytes(), "its address", 100)
        where = address(log)
        # When it has led for a moment, then it tells of its sweeps, and everything where that is asked for
        swept = re.compile(rb"embedmill_reconciler_sweeps_total [1-9]")
        until(lambda: swept.search(fetched(f"{where}/metrics")), "a sweep", 60)
        assert b'embedmill_process_memory_bytes{process="reconciler"}' in fetched(f"{where}/metrics")
        assert b"embedmill_reconciler_leads 1.0" in fetched(f"{where}/metrics/all")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
    assert {json.loads(line)["role"] for line in log.read_text().splitlines()} == {"reconciler"}


@pytest.mark.timeout(240)
def test_a_reconciler_tells_that_the_database_has_no_room() -> None:
    # Given a reconciler whose database lies on a small disk
    with small_disk(24) as disk, short_folder() as folder:
        shell, log = Shell(disk.path / "data", folder), folder / "log"
        refused = re.compile(rb"embedmill_reconciler_storage_full_total [1-9]")
        with log.open("wb") as output:
            process = shell.start("reconcile", "--health-port", 0, stdout=output, stderr=output)
        try:
            until(lambda: b"/readyz" in log.read_bytes(), "its address", 100)
            where = address(log)
            until(lambda: b"embedmill_reconciler_leads 1.0" in fetched(f"{where}/metrics/all"), "it to lead", 60)
            assert refused.search(fetched(f"{where}/metrics")) is None
            # When the disk is full, then it tells so, although the database cannot keep it
            disk.fill()
            until(lambda: refused.search(fetched(f"{where}/metrics")), "a write to be refused", 60)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, log.read_text()


def test_a_worker_process_measures_how_often_the_database_has_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a worker process, which ends since there is no database
    monkeypatch.setattr(fullness, "_listeners", [])
    settings = WorkerSettings.load(database_url=f"sqlite:///{tmp_path / 'away' / 'none.sqlite3'}")
    assert Process(settings, "cpu", "cpu", new_id()).run() == exits.STORAGE_AWAY
    before = measures.here.counts["worker_storage_full"]
    # When a statement finds no room, as SQLite tells it
    with pytest.raises(StorageFull), translated():
        full = sqlite3.OperationalError("database or disk is full")
        full.sqlite_errorname = "SQLITE_FULL"
        raise full
    # Then its supervisor is told with the next beat
    assert measures.here.counts["worker_storage_full"] == before + 1


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        body: bytes = answer.read()
        return body
