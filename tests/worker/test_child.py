"""Children of the supervisor: real processes that really die."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from storage import counters
from tests.worker.pipes import open_pipes
from worker import child as child_module
from worker import exits
from worker.child import Child
from worker.devices import Slot
from worker.parent import PARENT_VARIABLE
from worker.quarantine import Quarantine
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor, child_environment, worker_environment

READY = "from worker.parent import Supervisor; s = Supervisor(); s.tell(ready=True); "


class Nursery:
    """Starts children and ends them all at the end of a test."""

    def __init__(self) -> None:
        self.children: list[Child] = []
        self.deaths: list[tuple[str, bool]] = []
        #: How many chunks each death is charged to.
        self.charged = 0

    def note_death(self, child: Child, id_: str, died: bool) -> None:
        self.deaths.append((id_, died))
        if died and self.charged:
            child.start_soon()

    def start(self, program: str) -> Child:
        child = Child("child", lambda _: ["-c", program], {}, self.note_death)
        self.children.append(child)
        child.tend()
        return child

    def tend_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 90
        while not condition():
            assert time.monotonic() < deadline, "it did not come true within 90 s"
            for child in self.children:
                child.tend()
            time.sleep(0.01)


@pytest.fixture
def supervisor(migrated_sqlite: Path, tmp_path: Path) -> Iterator[Supervisor]:
    path = shutil.copy(migrated_sqlite, tmp_path / "mill.sqlite3")
    supervisor = Supervisor(WorkerSettings.load(database_url=f"sqlite:///{path}"), [])
    with closing(supervisor._stores.database):
        yield supervisor


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    for child in nursery.children:
        child.signal(signal.SIGKILL)
        while child.pid is not None:
            child.tend(stopping=True)


def test_a_child_that_is_killed_is_started_again_under_a_new_id(nursery: Nursery) -> None:
    # Given a ready child
    child = nursery.start(READY + "s.beat_for_ever(); import time; time.sleep(60)")
    nursery.tend_until(lambda: child.ready)
    first = child.pid
    # When it is killed
    child.signal(signal.SIGKILL)
    # Then its death is told once, and another one becomes ready
    nursery.tend_until(lambda: child.pid not in (first, None) and child.ready)
    assert [died for _, died in nursery.deaths] == [True]


def test_a_child_that_says_why_it_gives_up_is_heard(nursery: Nursery) -> None:
    child = nursery.start(
        "from worker.parent import Supervisor; import sys; Supervisor().tell(error='no such model'); sys.exit(78)"
    )
    nursery.tend_until(lambda: child.error is not None)
    assert child.error == "no such model"


def test_a_child_that_takes_its_time_to_die_is_told_of_once(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a child that hangs, and that a signal has not ended yet
    child = nursery.start(READY + "import time; time.sleep(60)")
    nursery.tend_until(lambda: child.ready)
    monkeypatch.setattr(child_module, "SILENCE", 0.0)
    monkeypatch.setattr(child, "signal", lambda number: None)
    # When it is looked after again and again
    for _ in range(3):
        child.tend()
    monkeypatch.undo()
    # Then that is said, and counted, once
    assert caplog.text.count("killing it") == 1


def test_a_child_that_hangs_is_killed(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a child that has become ready and then shows no sign of life
    monkeypatch.setattr(child_module, "SILENCE", 1.0)
    child = nursery.start(READY + "import time; time.sleep(60)")
    nursery.tend_until(lambda: child.ready)
    hanging = child.pid
    # Then it is killed and replaced, and the log says which it was, and why
    nursery.tend_until(lambda: child.pid not in (hanging, None))
    assert f"(pid {hanging}) has shown no sign of life for" in caplog.text
    assert nursery.deaths[0][1] is True


def test_a_child_dies_with_its_parent() -> None:
    # Given a parent whose child asked to die with it, as it has once it has become another program
    reader, writer = os.pipe()
    program = (
        "import os, pathlib, subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-m', 'worker.parent', '/bin/sleep', '600'])\n"
        "while pathlib.Path(f'/proc/{p.pid}/comm').read_text() != 'sleep\\n': time.sleep(0.01)\n"
        f"os.write({writer}, str(p.pid).encode()); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], pass_fds=(writer,))
    os.close(writer)
    orphan = int(os.read(reader, 100))
    os.close(reader)
    assert _alive(orphan)
    # When the parent is killed
    parent.kill()
    parent.wait(60)
    # Then the child is gone too
    deadline = time.monotonic() + 60
    while _alive(orphan) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(orphan)


def test_a_child_whose_parent_died_before_the_kernel_was_asked_ends_itself() -> None:
    # Given a child that is told of a parent that is not, or no longer, its own
    program = "from worker.parent import die_with_parent; die_with_parent(); print('still here')"
    environment = {**os.environ, PARENT_VARIABLE: "1"}
    # When it asks to die with its parent
    finished = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, timeout=60)
    # Then it ends at once
    assert (finished.returncode, finished.stdout) == (1, b"")


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_death_charged_to_chunks_does_not_lengthen_the_pause(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a child whose every death is charged to the chunks it held
    monkeypatch.setattr(child_module, "_BACKOFF", 0.01)
    monkeypatch.setattr(child_module, "_BACKOFF_CAP", 600.0)
    nursery.charged = 2
    nursery.start(READY + "import os; os._exit(1)")
    # When it dies again and again
    nursery.tend_until(lambda: len(nursery.deaths) >= child_module.SICK_AFTER)
    # Then the search for the culprit goes on at once, and does not wait for the cap that back-off would have reached
    # And since nothing was ever done in between, the slot is held to be sick in the end, and the chunks no longer
    charged = [died for _, died in nursery.deaths]
    assert charged == [True] * (child_module.SICK_AFTER - 1) + [False]


def test_the_pause_grows_with_each_death_of_a_sick_device(nursery: Nursery, caplog: pytest.LogCaptureFixture) -> None:
    nursery.charged = 2
    counters.take()
    sick = nursery.start("raise SystemExit(70)")
    nursery.tend_until(lambda: sick.deaths == 3)
    assert counters.take()["workers_died"] == 3
    # Then each is twice as long as the one before
    assert re.findall(r"starting again within (\S+) s", caplog.text) == ["0.5", "1.0", "2.0"]


@pytest.mark.parametrize("code", [exits.STORAGE_AWAY, exits.STARVED])
def test_a_server_that_is_away_is_not_held_against_a_slot_nor_its_chunks(
    nursery: Nursery, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    # Given a child that ends for want of the database, or of messages, again and again
    counters.take()
    child = nursery.start(READY + f"raise SystemExit({code})")
    nursery.tend_until(lambda: len(nursery.deaths) >= 3)
    # Then nobody is charged, the slot is not counted down, and the pause grows all the same
    # And no alarm is given of devices and memory: the server has alerts of its own
    assert counters.take()["workers_died"] == 0
    assert [died for _, died in nursery.deaths] == [False] * len(nursery.deaths) and child.deaths == 0
    assert re.findall(r"starting again within (\S+) s", caplog.text)[:3] == ["0.5", "1.0", "2.0"]


def test_a_child_is_not_charged_with_time_in_which_its_parent_stood_still(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a child that is silent, and a machine that stood still for as long as nobody may be silent
    monkeypatch.setattr(child_module, "SILENCE", 0.5)
    monkeypatch.setattr(child_module, "_STANDSTILL", 0.4)
    child = nursery.start(READY + "import time; time.sleep(60)")
    deadline = time.monotonic() + 60
    while not child.ready:
        assert time.monotonic() < deadline
        child.tend()
    first = child.pid
    time.sleep(1)
    # When it goes on
    child.tend()
    # Then the child lives, and is killed when it goes on being silent
    assert not child._silenced
    nursery.tend_until(lambda: child.pid not in (first, None))


def test_a_child_whose_talk_with_the_database_hangs_ends_itself(nursery: Nursery) -> None:
    # Given a child that was in touch with the database once
    hangs = "s.in_touch(); s.beat_for_ever(); import time; time.sleep(60)"
    short = "import worker.parent; worker.parent.ROUND = 0.5; worker.parent.BEAT = 0.02; "
    child = nursery.start(short + READY + hangs)
    # When it is no more, then it ends as one whom the database has left
    nursery.tend_until(lambda: child.last_end != "")
    assert child.last_end == f"exit code {exits.STORAGE_AWAY}"
    assert [died for _, died in nursery.deaths] == [False]


def test_a_child_that_has_done_work_is_not_held_to_be_sick(nursery: Nursery) -> None:
    busy = nursery.start(READY + "s.tell(worked=True); raise SystemExit(1)")
    nursery.tend_until(lambda: len(nursery.deaths) == 3)
    assert busy.deaths == 1


def test_a_process_that_never_becomes_ready_is_killed(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "START", 0.3)
    child = nursery.start("import time; time.sleep(60)")
    nursery.tend_until(lambda: child.deaths > 0)
    # And since it was never ready, it held nothing that could be charged
    assert child.last_end == "signal SIGKILL"
    assert nursery.deaths == []


def test_a_process_that_hangs_while_it_loads_is_killed_long_before(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a process that is not ready and shows no sign of life, though it may take long to become ready
    monkeypatch.setattr(child_module, "SILENCE_AT_START", 0.3)
    child = nursery.start("import time; time.sleep(60)")
    # Then it is killed
    nursery.tend_until(lambda: child.deaths > 0)
    assert child.last_end == "signal SIGKILL"


def test_a_process_that_cannot_be_started_leaves_nothing_behind_and_is_tried_again(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a machine on which no process can be started
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    before = open_pipes()
    with monkeypatch.context() as patch:
        patch.setattr(child_module, "_BACKOFF_CAP", 0.0)
        patch.setattr(subprocess, "Popen", refuse)
        child = nursery.start(READY)
        for _ in range(20):
            child.tend()
    # Then no end of a pipe is left open, and it starts as soon as one can be
    assert open_pipes() == before
    child.tend()
    assert child.pid is not None


def test_a_process_that_ended_itself_since_it_hung_had_no_good_life(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a life that counts as long
    monkeypatch.setattr(child_module, "_GOOD_LIFE", 0.0)
    monkeypatch.setattr(child_module, "_BACKOFF", 0.01)
    hanging, crashing = (nursery.start(READY + f"raise SystemExit({code})") for code in (exits.STALLED, 1))
    nursery.tend_until(lambda: len(nursery.deaths) >= 6)
    assert crashing.deaths == 1
    assert hanging.deaths >= 2


def test_children_are_told_no_password_and_read_it_where_their_parent_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text("grindstone\n")
    monkeypatch.setenv("EMBEDMILL_REDIS_PASSWORD_FILE", str(tmp_path / "password"))
    monkeypatch.setenv("EMBEDMILL_DATABASE_PASSWORD", "millrace")
    settings = WorkerSettings.load(redis_url="redis://miller@queue", database_url="postgresql://miller@db/mill")
    told = child_environment(settings)
    assert "grindstone" not in str(told) and "millrace" not in str(told) and "**" not in str(told)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    read = WorkerSettings.load()
    assert read.redis == settings.redis == "redis://miller:grindstone@queue"
    assert read.database == settings.database == "postgresql://miller:millrace@db/mill"


def test_no_childs_environment_holds_what_a_file_gave(
    nursery: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given URLs in files, as a chart's pods have them, and beside them what the environment and a flag say
    urls = {"REDIS_URL": "redis://miller:grindstone@queue", "DATABASE_URL": "postgresql://miller:millrace@db/mill"}
    for name, url in urls.items():
        (tmp_path / name).write_text(f"{url}\n")
        monkeypatch.setenv(f"EMBEDMILL_{name}_FILE", str(tmp_path / name))
    for name in ("log_level", "dtype"):
        (tmp_path / name).write_text("not read")
        monkeypatch.setenv(f"EMBEDMILL_{name.upper()}_FILE", str(tmp_path / name))
    monkeypatch.setenv("EMBEDMILL_LOG_LEVEL", "ERROR")
    settings = WorkerSettings.load(dtype="float32", stop_grace=7.0)
    told = child_environment(settings)
    # When a child runs
    child = Child("child", lambda _: ["-c", READY + "import time; time.sleep(60)"], told, nursery.note_death)
    nursery.children.append(child)
    nursery.tend_until(lambda: child.ready)
    # Then what it was given has no password, and it reads the same settings
    seen = Path(f"/proc/{child.pid}/environ").read_bytes().decode()
    assert "grindstone" not in seen and "millrace" not in seen and "EMBEDMILL_REDIS_URL_FILE=" in seen
    for variable in filter(None, seen.split("\0")):
        monkeypatch.setenv(*variable.split("=", 1))
    read = WorkerSettings.load()
    assert (read.redis, read.database) == (urls["REDIS_URL"], urls["DATABASE_URL"])
    assert (read.log_level, read.dtype, read.stop_grace) == ("ERROR", "float32", 7.0)


def test_a_process_on_a_cpu_keeps_its_memory_in_one_heap_and_one_on_a_gpu_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings, cpu, gpu = WorkerSettings.load(), Slot("cpu", "cpu", {"PIN": "1"}), Slot("cuda:1", "cuda:0", {"PIN": "2"})
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert "glibc.malloc.arena_max=1" in worker_environment(settings, cpu)["GLIBC_TUNABLES"].split(":")
    assert "GLIBC_TUNABLES" not in worker_environment(settings, gpu)
    assert "GLIBC_TUNABLES" not in child_environment(settings)
    # Of several GPUs each has its share of the cores for its tokenizer
    monkeypatch.delenv("RAYON_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(17)))
    shares = [worker_environment(settings, gpu, slots).get("RAYON_NUM_THREADS") for slots in (1, 2, 8, 20)]
    assert shares == [None, "8", "2", "1"] and "RAYON_NUM_THREADS" not in worker_environment(settings, cpu, 2)
    # What the operator says counts, and both are pinned
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=4")
    told = worker_environment(settings, cpu), os.environ | worker_environment(settings, gpu)
    assert [one["GLIBC_TUNABLES"] for one in told] == ["glibc.malloc.arena_max=4"] * 2
    assert [one["PIN"] for one in told] == ["1", "2"]


def test_children_are_stopped_in_order_though_one_cannot_be_looked_after(
    nursery: Nursery, supervisor: Supervisor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Given two children, of which one writes to its supervisor what cannot be read
    said = tmp_path / "said"
    chaff = f"import os; os.write(s._pipe, b'chaff\\n'); open({str(said)!r}, 'w'); import time; time.sleep(600)"
    babbling = nursery.start(READY + chaff)
    last = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: exit(7)); " + READY + "time.sleep(600)"
    sound = nursery.start(last)
    deadline = time.monotonic() + 90
    while not (sound.ready and said.exists()):
        assert time.monotonic() < deadline
        sound.tend()
        time.sleep(0.01)
    # When both are to stop
    supervisor._stop([babbling, sound])
    # Then both have ended, each by itself
    assert babbling.pid is None and sound.pid is None
    assert sound.last_end == "exit code 7" and "cannot be looked after" in caplog.text


def test_a_slot_that_cannot_be_judged_keeps_no_other_from_being_looked_after(
    nursery: Nursery, supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a supervisor, one of whose slots is judged with an error that nobody foresaw, and a child that has died
    class Judge(Quarantine):
        def holds(self, child: Child) -> bool:
            if child is first:
                raise ValueError("a row that cannot be read")
            return False

    supervisor._quarantine = Judge(supervisor._stores.workers, "mill")
    lasting = READY + "import time; time.sleep(600)"
    first, second, third = nursery.start(lasting), nursery.start("exit(3)"), nursery.start(lasting)
    supervisor._reconciler, supervisor.workers = third, [first, second]
    # When all are looked after, then the others are
    deadline = time.monotonic() + 90
    while not second.last_end:
        assert time.monotonic() < deadline
        supervisor._tend()
        time.sleep(0.01)
    assert "cannot be looked after" in caplog.text
