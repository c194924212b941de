"""Exports, kept in the user's cache folder: made at the first start, checked at every other."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import platformdirs

from storage.contract.errors import ModelRefused
from worker.engine.checkpoint import Checkpoint
from worker.engine.openvino.export import Facts, digest

_log = logging.getLogger(__name__)

#: Raised by one whenever an export is made differently.
_FORMAT = 1

#: Whose versions decide what an export looks like.
_LIBRARIES = ("openvino", "nncf", "torch", "transformers")

_EXPORT = "worker.engine.openvino.export"


class NotExportable(ModelRefused):
    """Raised when OpenVINO cannot compute a checkpoint's network."""


@contextmanager
def exported(checkpoint: Checkpoint, kind: str, processor: str) -> Iterator[tuple[Path, Facts]]:
    """Find or make an export; its files stay as long as the block lasts.

    Args:
        checkpoint: Whose network.
        kind: `float` or `int8`.
        processor: What it is measured on, so that another processor measures for itself.

    Yields:
        Its folder, and what is known of it.

    Raises:
        NotExportable: When it cannot be made.
    """
    root = platformdirs.user_cache_path("embedmill") / "openvino"
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / f"{_key(checkpoint, kind, processor)}.lock").open("a")
    except OSError as error:
        _log.warning("%s cannot be written (%s): the export is not kept", root, error.strerror)
        with tempfile.TemporaryDirectory(prefix="embedmill-") as passing:
            yield _made(checkpoint, kind, Path(passing) / kind)
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = Path(lock.name).with_suffix("")
        yield _kept(folder) or _made(checkpoint, kind, folder)


def _key(checkpoint: Checkpoint, kind: str, processor: str) -> str:
    place = str(checkpoint.transformer.relative_to(checkpoint.folder))
    identity = json.dumps([_FORMAT, checkpoint.revision, place, kind, processor, *map(version, _LIBRARIES)])
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", checkpoint.name.rsplit("/", 1)[-1])[:40]
    return f"{readable}-{kind}-{hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()}"


def _kept(folder: Path) -> tuple[Path, Facts] | None:
    if not folder.exists():
        return None
    try:
        facts = Facts.read(folder)
        if all(digest(folder / name) == wanted for name, wanted in facts.digests.items()):
            return folder, facts
    except (OSError, ValueError):
        pass
    _log.warning("the export in %s is damaged: it is made again", folder)
    return None


def _made(checkpoint: Checkpoint, kind: str, folder: Path) -> tuple[Path, Facts]:
    doing = "exporting and quantising" if kind == "int8" else "exporting"
    _log.info("%s %s for OpenVINO, once for this machine and these versions: %s", doing, checkpoint.name, folder)
    begun = time.monotonic()
    fresh = Path(tempfile.mkdtemp(prefix="new-", dir=folder.parent))
    try:
        _run(checkpoint, kind, fresh)
        facts = Facts.read(fresh)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    _log.info("%s took %.0f s", doing, time.monotonic() - begun)
    return folder, facts


def _run(checkpoint: Checkpoint, kind: str, folder: Path) -> None:
    # -P: the folder we were started in may hold somebody else's `storage` or `worker`.
    command = [sys.executable, "-P", "-m", _EXPORT, checkpoint.name, checkpoint.revision, kind, str(folder)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = process.stderr.read().strip().splitlines()
        code = process.wait()
    if code != 0:
        reason = said[-1] if said else f"exit code {code}"
        raise NotExportable(
            f"OpenVINO cannot compute {checkpoint.name} ({reason}).", "Use the torch backend and another dtype."
        )
