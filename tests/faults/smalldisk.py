"""A disk of a few megabytes, to be filled to its last byte."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers import short_folder

_BLOCK = 1 << 16


class SmallDisk:
    """A file system of its own.

    Args:
        path: Where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filling = path / "filling"

    def fill(self, room: int = 0) -> None:
        """Leave no room at all, or a little.

        Args:
            room: Bytes that are left, a multiple of a page's.
        """
        with self._filling.open("ab", buffering=0) as file:
            for size in (_BLOCK, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))
            file.truncate(file.tell() - room)

    def relieve(self) -> None:
        """Make room again."""
        self._filling.unlink()

    def take(self, path: Path) -> None:
        """Move a file or a folder here, with its owner and its rights, and leave a link in its place."""
        subprocess.run(["cp", "-a", path, self.path], check=True)
        subprocess.run(["rm", "-r", path], check=True)
        path.symlink_to(self.path / path.name)


@contextmanager
def small_disk(megabytes: int) -> Iterator[SmallDisk]:
    """Mount one, to be opened by everybody; skip the test where mounting is not permitted.

    Args:
        megabytes: How large.
    """
    with short_folder() as folder:
        options = f"size={megabytes}m,mode=777"
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True).returncode:
            pytest.skip("needs a mount namespace")
        try:
            yield SmallDisk(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
