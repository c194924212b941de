"""What tests lean on: ports that stay free, and processes that stand still where others can go on."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests import stack
from tests.stack import free_port
from tests.standstill import is_kept, standing_still

#: Keeps the database for longer than others wait for it at first, then stays without keeping anything.
WRITER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("inside", flush=True)
time.sleep(0.5)
connection.execute("COMMIT")
time.sleep(600)
"""


def test_a_port_is_none_that_the_kernel_hands_out_nor_taken_nor_handed_out_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = free_port(), free_port()
    assert first != second and 20_000 <= min(first, second) <= max(first, second) < 32_768
    # Given somebody who listens on the one that would come next, then another comes
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        monkeypatch.setattr(stack, "_numbers", iter(range(taken.getsockname()[1], taken.getsockname()[1] + 1_000)))
        assert free_port() != taken.getsockname()[1]


def test_a_process_stands_still_only_where_others_can_write(tmp_path: Path) -> None:
    # Given a process that is inside a transaction
    path = tmp_path / "mill.sqlite3"
    with closing(sqlite3.connect(path)) as made:
        made.execute("CREATE TABLE sacks (number INTEGER)")
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"inside\n"
        # When it is to stand still, then it does so once it is out of it
        with standing_still(process.pid, path):
            assert psutil.Process(process.pid).status() == psutil.STATUS_STOPPED and not is_kept(path)
        # And goes on afterwards
        assert psutil.Process(process.pid).status() != psutil.STATUS_STOPPED
    finally:
        process.kill()
        process.communicate()
