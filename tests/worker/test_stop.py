"""Stopping by a signal: whatever the main thread does just then, and when the terminal goes away."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from tests.worker.pipes import open_pipes
from worker.stop import Stop

_WAITS = """
import sys
from worker.stop import Stop, on_signals
stop = Stop()
on_signals(stop.set)
print("waiting", flush=True)
sys.exit(3 if stop.wait(600) else 4)
"""

#: A timer's signal comes at another moment of each wait: of an `Event`, some of these hang.
_AT_ANY_MOMENT = """
import signal
from worker.stop import Stop
stops = []
signal.signal(signal.SIGALRM, lambda *_: stops[-1].set())
for i in range(5000):
    stops = [Stop()]
    signal.setitimer(signal.ITIMER_REAL, (1 + i % 200) * 1e-6)
    while not stops[-1].wait(0.001):
        pass
"""


def test_a_handler_stops_the_thread_that_it_interrupts_at_any_moment() -> None:
    subprocess.run([sys.executable, "-c", _AT_ANY_MOMENT], check=True, timeout=100)


def test_all_who_wait_wake_up() -> None:
    stop, woken = Stop(), []
    threads = [threading.Thread(target=lambda: woken.append(stop.wait(600))) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert not stop.wait(0.01) and not stop.is_set()
    stop.set()
    stop.set()
    for thread in threads:
        thread.join(60)
    assert woken == [True] * 3 and stop.wait(600)


def test_a_stop_that_nobody_holds_leaves_no_pipe_open() -> None:
    before = open_pipes()
    for _ in range(20):
        Stop().set()
    assert open_pipes() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_noted(number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", _WAITS], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"waiting\n"
    process.send_signal(number)
    assert process.wait(60) == 3
    process.stdout.close()


def test_under_nohup_the_terminal_may_go() -> None:
    # Given a process that was started with SIGHUP ignored
    ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    process = subprocess.Popen([sys.executable, "-c", _WAITS], stdout=subprocess.PIPE, preexec_fn=ignore)
    assert process.stdout is not None and process.stdout.readline() == b"waiting\n"
    # When the terminal goes away, and somebody stops it later in another way
    process.send_signal(signal.SIGHUP)
    assert "SigIgn" in _ignored(process.pid)
    process.send_signal(signal.SIGTERM)
    # Then the latter is what ended it
    assert process.wait(60) == 3
    process.stdout.close()


def _ignored(pid: int) -> str:
    """Return the line of a process's ignored signals, once it is seen that SIGHUP is one of them."""
    with open(f"/proc/{pid}/status") as status:
        (line,) = [line for line in status if line.startswith("SigIgn")]
    assert int(line.split()[1], 16) & 1
    return line
