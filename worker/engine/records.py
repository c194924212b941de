"""What was found out on this machine, in small files for each model, in the user's cache folder."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

_log = logging.getLogger(__name__)

#: Pause between two looks at whether another process still measures, in seconds.
_PAUSE = 0.05


class Batching(BaseModel):
    """How the work is divided on a CPU.

    Args:
        token_budget: Most tokens of a batch.
        cores: Batches computed at a time.
        threads: Threads that compute one batch.
    """

    model_config = ConfigDict(frozen=True)

    token_budget: int = Field(ge=1)
    cores: int = Field(ge=1)
    threads: int = Field(default=1, ge=1)


class Record(BaseModel):
    """What is known of one model on one processor or GPU.

    Args:
        key: What it depends on; another's record is none.
        attempts: How often measuring was begun.
        dtype: What to compute in; None: not known yet.
        why: The reason for that, in a few words.
        batchings: How to divide the work, by number type.
        alike: Number types in which the network from the files answers as transformers' own; see `likeness.py`.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    attempts: int = Field(default=0, ge=0)
    dtype: str | None = Field(default=None, pattern="^(float32|bfloat16|float16)$")
    why: str = ""
    batchings: dict[str, Batching] = {}
    alike: list[str] = []


class Records:
    """Keeps records; where it cannot, nothing fails, and the next start finds it out again.

    Args:
        folder: Where they lie; None: `tuning` in the user's cache folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or platformdirs.user_cache_path("embedmill") / "tuning"

    def path(self, key: str) -> Path:
        """Return where a record lies."""
        return self._folder / f"{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}.json"

    def read(self, key: str) -> Record:
        """Return a record; an empty one where there is none, or none that can be read."""
        try:
            found = Record.model_validate_json(self.path(key).read_bytes())
        except (OSError, ValidationError):
            return Record(key=key)
        return found if found.key == key else Record(key=key)

    def write(self, record: Record) -> None:
        """Keep a record: whoever reads meanwhile finds the old one or the new one, whole."""
        path = self.path(record.key)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = tempfile.NamedTemporaryFile("w", dir=self._folder, prefix=path.stem, delete=False)  # noqa: SIM115
            try:
                with file:
                    file.write(record.model_dump_json(indent=1))
                os.replace(file.name, path)
            except OSError:
                # On a full disk each start would leave another one.
                os.unlink(file.name)
                raise
        except OSError as error:
            _log.warning("%s cannot be written (%s): the next start finds it out again", path, error.strerror)

    @contextmanager
    def alone(self, patience: float) -> Iterator[None]:
        """Keep other processes from measuring: two at a time would measure each other.

        Args:
            patience: Most seconds to wait for another one; after that, or where there can be no lock, go on without.
        """
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = (self._folder / "lock").open("a")
        except OSError:
            yield
            return
        with lock:  # closing it opens the lock
            deadline = time.monotonic() + patience
            while not _locked(lock.fileno()) and time.monotonic() < deadline:
                time.sleep(_PAUSE)
            yield


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
