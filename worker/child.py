"""A process that the supervisor keeps alive: started, watched by its heartbeat, restarted with back-off."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from storage import counters
from storage.contract.ids import new_id
from worker import exits
from worker.measures import Measures
from worker.parent import PARENT_VARIABLE, PIPE_VARIABLE

logger = logging.getLogger(__name__)

#: Pause before the first restart, in seconds; doubled with each death that follows a short life, up to the cap.
_BACKOFF, _BACKOFF_CAP = 0.5, 15.0

#: A life of so many seconds counts as a good one, as does one in which work was done: the next death begins with the
#: shortest pause again.
_GOOD_LIFE = 60.0

#: Deaths in a row without any work done in between after which the slot is held to be sick itself, and no longer the
#: chunks it held: a host without memory, say, would otherwise have every text condemned, one after another.
SICK_AFTER = 12

#: A ready process that shows no sign of life for so long hangs where Python cannot run, in seconds.
SILENCE = 30.0

#: Who looks after processes looks every tenth of a second; after so long, in seconds, it was not running itself.
_STANDSTILL = 3.0

#: One that is not ready yet may be silent for longer: what loads models keeps Python from running, at times.
SILENCE_AT_START = 300.0

#: A process that is not ready after so long never will be, in seconds; a large model may come over a slow line.
START = 3600.0


class Child:
    """One kept-alive process.

    Args:
        name: How logs call it.
        command: Arguments after the interpreter, without the id, given the id of each new start.
        environment: Variables on top of this process's own.
        died: Called with this, the id of a start that had been ready, and whether its death is to be charged to the
            chunks it held, before it is started again; waits for nothing.
        files: Numbers of open files that each start gets, too.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[str], list[str]],
        environment: dict[str, str],
        died: Callable[[Child, str, bool], object],
        files: tuple[int, ...] = (),
    ) -> None:
        self.name = name
        self.ready = False
        self.error: str | None = None
        #: Deaths in a row, each after a short life without any work done.
        self.deaths = 0
        #: How often it was started.
        self.starts = 0
        #: What all its starts have measured.
        self.measures = Measures()
        #: How it ended last, in words.
        self.last_end = ""
        self._command = command
        self._environment = environment
        self._died = died
        self._files = files
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        self._rest = b""
        self._id = ""
        #: The model identity it serves, once one start has been ready.
        self.model_id: str | None = None
        self._worked = self._silenced = False
        #: Ends in a row of which a server was the cause.
        self._turned_away = 0
        #: What it ended with last.
        self._code = 0
        self._ready_at: float | None = None
        self._started = self._seen = self._next_start = self._tended = 0.0

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process else None

    def tend(self, stopping: bool = False, hold: bool = False) -> None:
        """Look after the process: start it when it is due, hear it, end it when it hangs, note its death.

        Args:
            stopping: Do not start it again: all is about to end.
            hold: Do not start it again for now.
        """
        self._forgive_standstill()
        if self._process is None:
            if not stopping and not hold and time.monotonic() >= self._next_start:
                self._start()
            return
        self._hear()
        code = self._process.poll()
        if code is not None:
            self._bury(code, stopping)
        elif not self._silenced and (why := self._hangs()):
            logger.error("%s (pid %d) %s: killing it", self.name, self._process.pid, why)
            counters.count("workers_silenced")
            self._silenced = True
            self.signal(signal.SIGKILL)

    def start_soon(self) -> None:
        """Wait for no long pause, unless it is the device that is ill; may be called from any thread."""
        if self._code not in exits.OF_DEVICES:
            self._next_start = min(self._next_start, time.monotonic() + _BACKOFF)

    def _forgive_standstill(self) -> None:
        """Charge no time to the process in which this one stood still, too: the machine was frozen, or suspended."""
        now = time.monotonic()
        if self._tended and (beyond := now - self._tended - _STANDSTILL) > 0:
            # The rest counts: where every look comes late, one that hangs is found all the same.
            self._seen += beyond
            self._started += beyond
        self._tended = now

    def _count_death(self, code: int) -> None:
        lived = 0.0 if self._ready_at is None else time.monotonic() - self._ready_at
        if code in exits.OF_SERVERS:
            # That says nothing of the slot, which is not to be taken out for it, nor for what it has recovered from.
            if self._worked or lived > _GOOD_LIFE:
                self.deaths = self._turned_away = 0
            self._turned_away += 1
            return
        self._turned_away = 0
        # One that hung may have lived long, and was good for nothing all the same.
        hung = self._silenced or code in exits.OF_DEVICES
        self.deaths = 1 if self._worked or (lived > _GOOD_LIFE and not hung) else self.deaths + 1

    def _hangs(self) -> str | None:
        """Return why the process must be held to hang; None while it lives."""
        now = time.monotonic()
        if now - self._seen > (SILENCE if self.ready else SILENCE_AT_START):
            return f"has shown no sign of life for {now - self._seen:.0f} s"
        if not self.ready and now - self._started > START:
            return f"has not become ready within {START:.0f} s"
        return None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _start(self) -> None:
        self._id = new_id()
        self._worked = self._silenced = False
        self._ready_at = None
        # If even this fails, the next try is not at once.
        self._next_start = time.monotonic() + _BACKOFF_CAP
        self._pipe, write_end = os.pipe()
        os.set_blocking(self._pipe, False)
        environment = {**os.environ, **self._environment}
        environment |= {PIPE_VARIABLE: str(write_end), PARENT_VARIABLE: str(os.getpid())}
        # -P: the folder we were started in may hold somebody else's `storage` or `worker`.
        command = [sys.executable, "-P", *self._command(self._id)]
        # A session of its own: Ctrl-C on the terminal reaches the supervisor alone, who then stops in order.
        try:
            self._process = subprocess.Popen(
                command,
                env=environment,
                pass_fds=(write_end, *self._files),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            # No memory, or too many processes: that passes, if nothing is left behind each time.
            os.close(self._pipe)
            logger.error("%s cannot be started, trying again in %.0f s: %s", self.name, _BACKOFF_CAP, error)
            return
        finally:
            os.close(write_end)
        self._started = self._seen = time.monotonic()
        self.starts += 1
        logger.debug("started %s as process %d", self.name, self._process.pid)

    def _hear(self) -> None:
        try:
            while data := os.read(self._pipe, 65536):
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    self._note(json.loads(line))
        except BlockingIOError:
            pass

    def _note(self, facts: dict[str, Any]) -> None:
        self._seen = time.monotonic()
        if facts.get("ready"):
            self.ready, self.error = True, None
            self.model_id = facts.get("model_id", self.model_id)
            self._ready_at = self._ready_at or time.monotonic()
        if facts.get("measured"):
            self.measures.merge(facts["measured"])
        if facts.get("worked"):
            self._worked = True
        if "error" in facts:
            self.error = facts["error"]

    def _bury(self, code: int, stopping: bool) -> None:
        self._hear()  # its last words
        os.close(self._pipe)
        self._process, self._rest, self.ready, self._code = None, b"", False, code
        # A server that is away or silent has alerts and counters of its own: no device and no text is to be looked at.
        crashed = code != 0 and not stopping and code not in exits.OF_SERVERS
        counters.count("workers_died", int(crashed))
        self._count_death(code)
        pause = min(_BACKOFF_CAP, _BACKOFF * 2 ** min(max(self.deaths, self._turned_away) - 1, 10))
        self._next_start = time.monotonic() + pause
        charge = crashed and self.deaths < SICK_AFTER
        # One that was never ready holds nothing.
        if self._ready_at is not None:
            self._died(self, self._id, charge)
        if stopping and code == 0:
            logger.debug("%s has stopped", self.name)
        else:
            self.last_end = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            then = "" if stopping else f", starting again within {pause:.1f} s"
            logger.warning("%s ended with %s%s", self.name, self.last_end, then)
