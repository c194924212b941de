"""Where results go: a file that appears whole or not at all, or a stream; a full disk is told as one."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from storage.contract.errors import EmbedmillError, InvalidFile, InvalidOption, OutputExists, StorageFull

#: What results may be written to: a file by its path, or a binary stream.
Target = str | os.PathLike[str] | BinaryIO

#: Characters of the target's name that the temporary file's name repeats; four bytes each stay below 255.
NAME_CHARACTERS = 50

#: Bytes that a pipe we write to may hold, where that is allowed: at 64 KiB writer and reader keep waking each other.
_PIPE = 1 << 20

#: Bytes after which the disk is given what was written, in a file; the sync at its end would else wait for all of it.
_SENT_AT_ONCE = 32 << 20

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Sink:
    """A binary stream that counts what it takes and raises Embedmill's own errors; the writers need no more of a file.

    Args:
        file: Where the bytes go; stays open.
        name: What messages call it.
        to_disk: Whether it is a file that will be synced: then the disk is kept busy from the start.
    """

    closed = False

    def __init__(self, file: BinaryIO, name: str, to_disk: bool = False) -> None:
        self._file = file
        self._name = name
        self._to_disk = to_disk
        self._position = self._sent = 0

    def write(self, data: bytes) -> int:
        """Write all of `data` (anything that has a buffer).

        Raises:
            StorageFull: When there is no room left.
            InvalidFile: When writing fails for another reason; a reader that went away stays a `BrokenPipeError`.
        """
        size = memoryview(data).nbytes
        with _translated(self._name):
            write_all(self._file, data)
        self._position += size
        if self._to_disk and self._position - self._sent >= _SENT_AT_ONCE:
            self._send()
        return size

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._position

    def flush(self) -> None:
        """Pass on what is buffered; raises as `write` does."""
        with _translated(self._name):
            self._file.flush()

    def close(self) -> None:
        """Do nothing: whoever opened the file closes it."""

    def _send(self) -> None:
        # Linux begins to write what it is told will not be needed, and does not wait for it.
        os.posix_fadvise(self._file.fileno(), self._sent, self._position - self._sent, os.POSIX_FADV_DONTNEED)
        self._sent = self._position


def as_target(target: Target) -> Path | BinaryIO:
    """Return a file that somebody named as a `Path`, and a stream as it is.

    Args:
        target: A path of any kind, or a binary stream.

    Raises:
        InvalidOption: When it is neither.
    """
    if isinstance(target, str | os.PathLike):
        path = os.fspath(target)
        return Path(os.fsdecode(path))
    if isinstance(target, io.TextIOBase) or not callable(getattr(target, "write", None)):
        kind = "a stream of text" if isinstance(target, io.TextIOBase) else f"this {type(target).__name__}"
        raise InvalidOption(f"Results cannot be written to {kind}.", "Name a file, or give a stream of bytes.")
    return target


@contextmanager
def opened_output(target: Target, force: bool) -> Iterator[Sink]:
    """Open what results are written to; a file is written beside its place and moved there when all went well.

    Args:
        target: A file, or a binary stream, which is flushed at the end and stays open.
        force: Whether a file that exists is replaced.

    Raises:
        InvalidOption: When `target` is neither.
        OutputExists: When `target` exists, now or at the end, and `force` is not given.
        InvalidFile: When its folder is missing, it is no regular file, or it cannot be written.
        StorageFull: When there is no room left.
    """
    target = as_target(target)
    if not isinstance(target, Path):
        _widen(target)
        sink = Sink(target, "the output")
        yield sink
        sink.flush()
        return
    check_output(target, force)
    place = Path(os.path.realpath(target))  # a symbolic link stays, what it points to is replaced
    beside = place.with_name(f".{place.name[:NAME_CHARACTERS]}.{os.getpid()}.{secrets.token_hex(4)}.part")
    with _translated(str(target)):
        file = beside.open("xb")
    try:
        yield Sink(file, str(target), to_disk=True)
        with _translated(str(target)):
            file.flush()
            os.fsync(file.fileno())
            file.close()
        _put_in_place(beside, place, target, force)
    finally:
        with suppress(OSError):  # on a full disk closing fails as writing did
            file.close()
        with suppress(FileNotFoundError):
            beside.unlink()


def check_output(target: Path, force: bool) -> None:
    """Refuse what can be refused before any work is done.

    Args:
        target: The file to be written.
        force: Whether it may exist.

    Raises:
        OutputExists: When it exists and `force` is not given.
        InvalidFile: When its folder is missing, or it is a folder, a device or a pipe.
    """
    with _translated(str(target)):
        folder_there, is_folder = target.parent.is_dir(), target.is_dir()
        exists, is_file = target.exists(), target.is_file()
    if is_folder:
        raise InvalidFile(f"{target} is a folder, not a file.", "Name a file in it.")
    if exists and not is_file:
        raise InvalidFile(f"{target} is no regular file.", "Name a file that may be replaced.")
    if exists and not force:
        raise _output_exists(target)
    if not folder_there:
        raise InvalidFile(f"There is no folder {target.parent} to write {target.name} in.", "Make it first.")


def standard_output() -> BinaryIO:
    """Return standard output, for bytes.

    Raises:
        InvalidFile: When it is closed.
    """
    if sys.stdout is None:
        raise InvalidFile("Standard output is closed.", "Let it lead somewhere, or name a file.")
    return sys.stdout.buffer


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write all of `data`: a file without a buffer takes a part of it, without a word, where a disk fills up.

    Args:
        file: With a buffer or without.
        data: Anything that has a buffer.

    Raises:
        OSError: When the rest is not taken.
    """
    left = memoryview(data)
    if not isinstance(file, io.RawIOBase) or not left.nbytes:
        file.write(data)
        return
    left = left.cast("B")
    while left:
        taken = file.write(left)
        if taken is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        left = left[taken:]


def _widen(stream: BinaryIO) -> None:
    """Let a pipe hold more; other streams stay as they are."""
    with suppress(OSError, ValueError, AttributeError):
        fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, _PIPE)


def _put_in_place(beside: Path, place: Path, target: Path, force: bool) -> None:
    if force:
        with _translated(str(target)):
            os.replace(beside, place)
        return
    try:
        os.link(beside, place)
        return
    except FileExistsError:
        raise _output_exists(target) from None
    except OSError:
        pass  # a file system without hard links
    # Taking the name first, as an empty file, finds out atomically whether somebody else took it meanwhile.
    try:
        with _translated(str(target)):
            os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        raise _output_exists(target) from None
    try:
        os.replace(beside, place)
    except BaseException:
        place.unlink()
        raise


def _output_exists(target: Path) -> OutputExists:
    return OutputExists(f"{target} exists already.", "Give another name, or --force to replace it.")


@contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except (EmbedmillError, BrokenPipeError, FileExistsError):
        raise
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StorageFull(f"There is no room for {name}: {error.strerror}.", "Make room and try again.") from error
        raise InvalidFile(f"{name} cannot be written: {error.strerror}.") from error
