"""On which file systems SQLite keeps its promises: none that several machines see at once."""

from __future__ import annotations

import logging
from pathlib import Path

from storage.contract.errors import StorageUnavailable

logger = logging.getLogger(__name__)

#: Network file systems by the kernel's magic number: SQLite's WAL needs shared memory and locks that they lack.
_NETWORK = {
    0x6969: "NFS",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB2",
    0x517B: "SMB",
    0x01021997: "9P",
    0x00C36400: "CephFS",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x19830326: "BeeGFS",
    0x5346414F: "AFS",
    0x7461636F: "OCFS2",
    0x786F4256: "a folder that VirtualBox shares",
}

#: Those that may be either: a disk of this machine, or what other machines see too.
_DOUBTFUL = {0x65735546: "FUSE", 0x6A656A63: "virtiofs"}


def refuse_network_file_system(path: Path) -> None:
    """Refuse a file where SQLite cannot keep its promises; warn of one where that depends on what is behind.

    Args:
        path: The file, or a link to it, which need not be there yet.

    Raises:
        StorageUnavailable: When its folder lies on a network file system.
    """
    # Where the file is, its log lies beside it: what leads there does not count.
    folder = path.resolve().parent
    number = _file_system_magic(folder)
    if kind := _NETWORK.get(number):
        raise StorageUnavailable(
            f"{folder} lies on {kind}, where SQLite cannot keep its promises.",
            "Choose a local folder with EMBEDMILL_DATA_DIR, or PostgreSQL with EMBEDMILL_DATABASE_URL.",
        )
    if kind := _DOUBTFUL.get(number):
        logger.warning(
            "%s lies on %s: SQLite keeps its promises there only if one machine alone uses it; else take PostgreSQL",
            folder,
            kind,
        )


def _file_system_magic(folder: Path) -> int:
    """Return the kernel's number of the folder's file system, 0 where that cannot be told."""
    import ctypes

    try:
        libc = ctypes.CDLL(None, use_errno=True)
        buffer = (ctypes.c_ulong * 64)()
        return int(buffer[0]) if libc.statfs(str(folder).encode(), ctypes.byref(buffer)) == 0 else 0
    except (OSError, AttributeError):
        return 0
