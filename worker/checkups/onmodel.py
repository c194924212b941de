"""The model that a worker here would serve: its files, and the room for more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import platformdirs

from storage.checkups.check import Area, NotChecked, Outcome, ok, warning
from storage.checkups.places import room, size
from storage.contract.errors import ModelBroken
from storage.contract.models import model_name
from worker.engine.checkpoint import Checkpoint, resolve
from worker.settings import WorkerSettings


def area(settings: WorkerSettings) -> Area[Checkpoint | None]:
    """Return the checks of the model that is set.

    Args:
        settings: Name it.
    """

    @contextmanager
    def opened() -> Iterator[tuple[Checkpoint | None, Outcome]]:
        if any(find_spec(name) is None for name in ("torch", "transformers", "tokenizers", "safetensors")):
            raise NotChecked("the embedding side is not installed here (pip install 'embedmill[worker]')")
        checkpoint = _found(settings)
        yield checkpoint, _files(settings, checkpoint)

    found: Area[Checkpoint | None] = Area("model", "files", opened)
    found.check("cache", lambda checkpoint: _cache())
    found.check("tuning", lambda checkpoint: _tuning())
    return found


def _found(settings: WorkerSettings) -> Checkpoint | None:
    """Return the model as its files describe it; None where it is a hub's, and not in the cache yet."""
    name = model_name(settings.model)
    try:
        return resolve(name, settings.revision, download=False)
    except ModelBroken:
        if Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
            raise
        return None


def _files(settings: WorkerSettings, checkpoint: Checkpoint | None) -> Outcome:
    if checkpoint is None:
        return warning(
            f"{settings.model} is not on this machine yet: a worker downloads it from the hub at its start.",
            "Where there is no network, name a local folder with --model, or fill the cache:"
            f" hf download {settings.model}.",
        )
    weights = sum(file.stat().st_size for file in checkpoint.transformer.glob("*.safetensors"))
    pooling = f"pooling {checkpoint.pooling}" + (" (assumed: no modules.json)" if checkpoint.is_assumed else "")
    return ok(
        f"{checkpoint.name} at revision {checkpoint.revision[:12]}, {size(weights)} of weights, tokenizer there;"
        f" width {checkpoint.width}, {pooling}, at most {checkpoint.max_length} tokens."
    )


def _cache() -> Outcome:
    home = (
        os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface"
    )
    return room(Path(home))


def _tuning() -> Outcome:
    folder = platformdirs.user_cache_path("embedmill")
    place = next(place for place in (folder, *folder.parents) if place.exists())
    if not os.access(place, os.W_OK):
        return warning(
            f"{place} may not be written: what a worker measures of a model is measured anew at each start.",
            "Give the user that runs workers a cache folder (XDG_CACHE_HOME).",
        )
    return ok(f"What is measured of models is kept in {folder}.")
