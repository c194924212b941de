"""A TCP proxy between the program and a server, on which a test makes the network misbehave."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

#: How often a connection looks whether something was changed, in seconds.
_LOOK = 0.05

_BLOCK = 65536


@dataclass(eq=False)
class _Link:
    """One connection through the proxy.

    Args:
        client: Towards the program.
        server: Towards the server; None where it was never connected.
        hole: Whether it swallows everything from now on, for ever.
    """

    client: socket.socket
    server: socket.socket | None
    hole: bool = False
    closed: threading.Event = field(default_factory=threading.Event)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def close(self, reset: bool = False) -> None:
        """Close both sides; with a reset in place of an orderly end, where wanted."""
        with self.guard:
            if self.closed.is_set():
                return  # who wakes up of another one's RST must not end it in order before that
            self.closed.set()
        for side in (self.client, self.server):
            if side is None:
                continue
            with contextlib.suppress(OSError):
                if reset:
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    # A thread may be in the midst of a read, which holds the socket open, and the RST back: it comes
                    # to its end by this, of which nothing is sent.
                    side.shutdown(socket.SHUT_RD)
                else:
                    side.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                side.close()


class Proxy:
    """Forwards TCP connections to a server on this machine, in threads.

    Args:
        target: The server's port.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_LOOK)
        self.port: int = self._listener.getsockname()[1]
        #: Seconds that every block waits, each way.
        self.delay = 0.0
        #: Bytes a second of one connection, each way; 0: as many as come.
        self.rate = 0.0
        #: So many bytes were swallowed, so many held up by `delay` or `rate`, and so many connections cut by `reset`.
        self.swallowed = self.late = self.cut = 0
        #: Set when what `drop_reply` or `drop_request` waited for has come, and the connection was cut.
        self.dropped = threading.Event()
        self._links: set[_Link] = set()
        self._guard = threading.Lock()
        self._frozen = self._hole = self._refusing = self._closed = False
        self._needle = b""
        self._port: int | None = None
        self._deliver = True
        self._allowed: int | None = None
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def heal(self) -> None:
        """Forward everything again; connections that have swallowed anything stay dead, as half-open ones do."""
        self.delay = self.rate = 0.0
        self._frozen = self._hole = self._refusing = False
        self._needle = b""

    def hole(self, existing: bool = True, new: bool = True) -> None:
        """Swallow without a word what comes, either way, on connections that are there and on new ones."""
        self._hole = new
        with self._guard:
            for link in self._links if existing else ():
                link.hole = True

    def freeze(self) -> None:
        """Take nothing and forward nothing until healed; then everything arrives, late."""
        self._frozen = True

    def reset(self, new: bool = False) -> None:
        """Cut every connection with a RST; with `new` also each later one, at once, until healed."""
        self._refusing = new
        with self._guard:
            links = [link for link in self._links if not link.closed.is_set()]
            self.cut += len(links)
        for link in links:
            link.close(reset=True)

    def drop_reply(self, needle: bytes, port: int | None = None) -> None:
        """Forward the next request that contains these bytes, wait for its reply, and cut the connection instead.

        Args:
            needle: The bytes, such as `COMMIT`.
            port: Look only at the connection that the server sees coming from this port.
        """
        self._drop(needle, port, deliver=True)

    def drop_request(self, needle: bytes, port: int | None = None) -> None:
        """Cut the connection instead of forwarding the next request that contains these bytes; as `drop_reply`."""
        self._drop(needle, port, deliver=False)

    def cut_after(self, size: int) -> None:
        """Cut the connection on which so many more bytes have come from the server, once; they arrive before."""
        with self._guard:
            self.dropped.clear()
            self._allowed = size

    def aim(self, target: int) -> None:
        """Forward new connections to another port."""
        self._target = target

    def close(self) -> None:
        """End all connections and stop listening."""
        self._closed = True
        self._listener.close()
        self.reset()

    @property
    def connections(self) -> int:
        """How many there are now."""
        with self._guard:
            return len(self._links)

    def _drop(self, needle: bytes, port: int | None, deliver: bool) -> None:
        with self._guard:
            self.dropped.clear()
            self._deliver, self._needle, self._port = deliver, needle, port

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            threading.Thread(target=self._open, args=(client,), name="proxy-link", daemon=True).start()

    def _open(self, client: socket.socket) -> None:
        link = _Link(client, None, hole=self._hole)
        if self._refusing:
            link.close(reset=True)
            return
        if not link.hole:
            try:
                link.server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                link.close(reset=True)
                return
        for side in (link.client, link.server):
            if side is not None:
                side.settimeout(_LOOK)
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._guard:
            self._links.add(link)
        if link.server is not None:
            back = (link, link.server, link.client)
            threading.Thread(target=self._pump, args=back, name="proxy-back", daemon=True).start()
        self._pump(link, link.client, link.server)

    def _pump(self, link: _Link, source: socket.socket, sink: socket.socket | None) -> None:
        try:
            while not (link.closed.is_set() or self._closed):
                if self._frozen:
                    time.sleep(_LOOK)
                    continue
                try:
                    data = source.recv(_BLOCK)
                except (TimeoutError, BlockingIOError):
                    # The other thread, which sends on this socket, may just be changing how it waits.
                    continue
                if not data:
                    break
                if sink is not None and not link.hole:
                    self._forward(link, source, sink, data)
                else:
                    with self._guard:
                        self.swallowed += len(data)
        except OSError:
            pass
        # A hole hides the end of either side from the other one.
        if not link.hole or source is link.client:
            link.close()
            with self._guard:
                self._links.discard(link)

    def _forward(self, link: _Link, source: socket.socket, sink: socket.socket, data: bytes) -> None:
        if source is link.client and self._is_awaited(sink, data):
            self._cut(link, sink, data)
            return
        if source is link.server and self._is_enough(len(data)):
            sink.settimeout(None)
            sink.sendall(data)
            link.close()
            self.dropped.set()
            return
        if self.delay or self.rate:
            with self._guard:
                self.late += len(data)
        if self.delay:
            link.closed.wait(self.delay)
        if self.rate:
            link.closed.wait(len(data) / self.rate)
        while self._frozen and not link.closed.is_set():
            time.sleep(_LOOK)
        if not link.hole:
            sink.settimeout(None)
            sink.sendall(data)
            sink.settimeout(_LOOK)

    def _is_awaited(self, sink: socket.socket, data: bytes) -> bool:
        with self._guard:
            if not self._needle or self._needle not in data or self._port not in (None, sink.getsockname()[1]):
                return False
            self._needle = b""
            return True

    def _is_enough(self, size: int) -> bool:
        with self._guard:
            if self._allowed is None:
                return False
            self._allowed -= size
            if self._allowed > 0:
                return False
            self._allowed = None
            return True

    def _cut(self, link: _Link, sink: socket.socket, data: bytes) -> None:
        # From here on the answering thread swallows what comes back.
        link.hole = True
        if self._deliver:
            sink.sendall(data)
            time.sleep(0.3)
        link.close(reset=True)
        self.dropped.set()
