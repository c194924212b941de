"""Keeps an overview on the terminal, and listens to keys; what is asked never holds up what is typed."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.live import Live

from producer.overview import Overview, Overviews
from producer.topview import SORTS, frame
from storage.contract.errors import EmbedmillError

#: Pause between two looks at keys and at the terminal's size, in seconds.
_LISTEN = 0.1

#: Of its time the database is asked at most this share, however long it takes to answer.
_SHARE = 0.1


def show(overviews: Overviews, console: Console, interval: float) -> None:
    """Show overviews until `q` or Ctrl-C.

    Args:
        overviews: Are asked, in a thread.
        console: The terminal.
        interval: Seconds between two looks.

    Raises:
        EmbedmillError: When the first look fails; later ones are told of, and tried again.
        KeyboardInterrupt: On Ctrl-C.
    """
    looker = _Looker(overviews, interval, console)
    looker.first()
    sort, paused = next(iter(SORTS)), False
    seen: Any = None
    screen = Live(console=console, screen=True, auto_refresh=False)
    with _interrupts() as interrupted, _keys() as pressed, screen as live:
        looker.start()
        while True:
            if interrupted.is_set():
                raise KeyboardInterrupt
            for key in pressed():
                if key in ("q", "Q", "\x03", "\x04", "\x1b"):
                    return
                if key == "p":
                    paused = not paused
                    looker.hold(paused)
                if key == "s":
                    names = list(SORTS)
                    sort = names[(names.index(sort) + 1) % len(names)]
            told = (looker.latest, looker.notice(paused), sort, console.size)
            if told != seen:
                overview, notice, _, size = seen = told
                live.update(frame(overview, overviews.where, size.width, size.height, sort, notice), refresh=True)


class _Looker:
    """Asks again and again, and keeps the newest answer."""

    def __init__(self, overviews: Overviews, interval: float, console: Console) -> None:
        self._overviews = overviews
        self._interval = interval
        self._console = console
        self._going = threading.Event()
        self._going.set()
        self._error: EmbedmillError | None = None
        self._failing_since = 0.0
        self.latest: Overview

    def first(self) -> None:
        self.latest = self._overviews.look(self._console.height)

    def start(self) -> None:
        threading.Thread(target=self._look_for_ever, name="top", daemon=True).start()

    def hold(self, paused: bool) -> None:
        (self._going.clear if paused else self._going.set)()

    def notice(self, paused: bool) -> str | None:
        """Return what is to be said at the bottom."""
        if self._error is not None:
            return f"{self._error.message} Trying again, {time.monotonic() - self._failing_since:.0f} s by now."
        return "paused; p goes on" if paused else None

    def _look_for_ever(self) -> None:
        while True:
            time.sleep(max(self._interval, self.latest.seconds / _SHARE))
            self._going.wait()
            try:
                self.latest = self._overviews.look(self._console.height)
                self._error = None
            except Exception as error:  # such as what a proxy answers in the service's place: this thread must not end
                if self._error is None:
                    self._failing_since = time.monotonic()
                unread = EmbedmillError(f"What is answered cannot be read ({type(error).__name__}).")
                self._error = error if isinstance(error, EmbedmillError) else unread


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Note Ctrl-C, which Python would raise anywhere: also where whatever is raised is dropped, and it with it."""
    noted = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: noted.set())
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _keys() -> Iterator[_Pressed]:
    """Let keys come one by one and unseen; the terminal is afterwards as it was before."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield _Pressed(None)
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield _Pressed(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


class _Pressed:
    """Waits a moment for keys; returns those that were pressed."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def __call__(self) -> str:
        if self._descriptor is None:
            time.sleep(_LISTEN)
            return ""
        if not select.select([self._descriptor], [], [], _LISTEN)[0]:
            return ""
        typed = os.read(self._descriptor, 64) or b"\x04"  # the terminal is gone
        text = typed.decode(errors="ignore")
        # An arrow or a function key begins with an escape, and is none of ours.
        return "" if text.startswith("\x1b") and len(text) > 1 else text
