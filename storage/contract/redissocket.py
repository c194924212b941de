"""Where the embedded server listens: beside its data, or in a short folder when that path is too long."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from storage.contract.errors import QueueUnavailable

#: Longest path of a unix socket that every system takes, in bytes.
_LIMIT = 100


def socket_of(data_dir: Path) -> Path:
    """Return the path of the socket that belongs to a data folder.

    Args:
        data_dir: An absolute path.
    """
    natural = data_dir / "redis.sock"
    if len(os.fsencode(natural)) <= _LIMIT:
        return natural
    digest = hashlib.blake2b(os.fsencode(data_dir), digest_size=8).hexdigest()
    return Path(tempfile.gettempdir()) / f"embedmill-{digest}" / "redis.sock"


def check_socket_folder(data_dir: Path) -> None:
    """Check that a short folder is of whoever owns the data: where it lies, everybody may make one of its name.

    Args:
        data_dir: An absolute path.

    Raises:
        QueueUnavailable: When somebody else made it, or may write in it.
    """
    folder = socket_of(data_dir).parent
    if folder == data_dir:
        return
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return
    owners = {os.getuid(), data_dir.stat().st_uid} if data_dir.exists() else {os.getuid()}
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners or found.st_mode & 0o022:
        raise QueueUnavailable(
            f"The folder of the embedded Redis' socket, {folder}, is somebody else's, or others may write in it.",
            "Remove it, or choose a data folder whose path is shorter with --data-dir or EMBEDMILL_DATA_DIR.",
        )
