"""Hosts of their own addresses on one machine: network namespaces on one switch, whose cables can be pulled."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.faults import processes
from tests.needs import need_program

_NETWORKS = itertools.count()


def need_namespaces() -> None:
    """Skip the test where no network namespace can be made; fail it on CI where only the tools are missing."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        pytest.skip("needs network namespaces")
    need_program("ip", package="iproute2")


def _do(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


class Host:
    """A host: a namespace with one network card and an address.

    Args:
        switch: The namespace of the switch.
        prefix: What the names of its namespaces begin with.
        name: What it is called.
        address: Its address.
    """

    def __init__(self, switch: str, prefix: str, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.namespace = f"{prefix}-{name}"
        self._switch = switch
        self._is_on = False
        self.boot()

    def boot(self) -> None:
        """Turn it on, with the network card and the address it always had, and no memory of any connection."""
        if self._is_on:
            return
        _do("ip", "netns", "add", self.namespace)
        card = f"02:77:00:00:00:{int(self.address.rpartition('.')[2]):02x}"
        ends = ("type", "veth", "peer", "name", self.name, "netns", self._switch)
        _do("ip", "-n", self.namespace, "link", "add", "eth0", "address", card, *ends)
        _do("ip", "-n", self.namespace, "address", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _do("ip", "-n", self.namespace, "link", "set", device, "up")
        _do("ip", "-n", self._switch, "link", "set", self.name, "master", "bridge", "up")
        self._is_on = True

    @property
    def enter(self) -> list[str]:
        """What a command begins with that is to run on this host."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}"]

    def unplug(self) -> None:
        """Pull its cable at the switch: no connection is told, nothing arrives."""
        _do("ip", "-n", self._switch, "link", "set", self.name, "down")

    def plug(self) -> None:
        """Put its cable back."""
        _do("ip", "-n", self._switch, "link", "set", self.name, "up")

    def slow(self, rate: str) -> None:
        """Let no more pass than so much a second, such as `256kbit`, each way; what waits too long is dropped."""
        shape = ("root", "tbf", "rate", rate, "burst", "16kb", "latency", "2s")
        _do("tc", "-n", self.namespace, "qdisc", "replace", "dev", "eth0", *shape)
        _do("tc", "-n", self._switch, "qdisc", "replace", "dev", self.name, *shape)

    def lose(self, share: float) -> None:
        """Drop so many of the packets that come in."""
        rule = ("INPUT", "-i", "eth0", "-m", "statistic", "--mode", "random", "--probability", str(share), "-j", "DROP")
        _do(*self.enter, need_program("iptables", package="iptables"), "-A", *rule)

    def mend(self) -> None:
        """Turn it on, and undo all that was done to its network."""
        self.boot()
        self.plug()
        for where in (("-n", self.namespace, "qdisc", "del", "dev", "eth0", "root"),
                      ("-n", self._switch, "qdisc", "del", "dev", self.name, "root")):  # fmt: skip
            subprocess.run(["tc", *where], capture_output=True, timeout=60)
        with suppress(FileNotFoundError):
            subprocess.run([*self.enter, "iptables", "-F"], capture_output=True, timeout=60)

    def pids(self) -> list[int]:
        """Return the processes that run there."""
        return [int(pid) for pid in _do("ip", "netns", "pids", self.namespace).split()]

    def lose_power(self) -> None:
        """End all that runs there at once, without a word to anybody."""
        self.unplug()
        lost = self.pids()
        for pid in lost:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        processes.wait_until_ended(lost, 60)
        # Its connections go with its namespace: it will not know of them when it is back.
        _do("ip", "-n", self._switch, "link", "del", self.name)
        _do("ip", "netns", "del", self.namespace)
        self._is_on = False


class Network:
    """Hosts on a switch, far from this machine's own network; made by `network`.

    Args:
        prefix: What the names of all namespaces begin with.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._switch = f"{prefix}-switch"
        self.hosts: list[Host] = []
        _do("ip", "netns", "add", self._switch)
        _do("ip", "-n", self._switch, "link", "add", "bridge", "type", "bridge")
        _do("ip", "-n", self._switch, "link", "set", "bridge", "up")

    def host(self, name: str) -> Host:
        """Add a host; its name has at most 15 letters."""
        self.hosts.append(Host(self._switch, self._prefix, name, f"10.77.0.{len(self.hosts) + 1}"))
        return self.hosts[-1]

    def mend(self) -> None:
        """Undo all that was done to any host's network."""
        for host in self.hosts:
            host.mend()

    def close(self) -> None:
        """Remove everything; processes that still run somewhere keep their namespace until they end."""
        for name in [*(host.namespace for host in self.hosts), self._switch]:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=60)


@contextmanager
def network() -> Iterator[Network]:
    """Make an empty network, and remove it in the end."""
    need_namespaces()
    made = Network(f"em-{os.getpid()}-{next(_NETWORKS)}")
    try:
        yield made
    finally:
        made.close()
