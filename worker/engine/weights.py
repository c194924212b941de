"""Weights of a module, checked before anything is loaded: safetensors only, whole, nothing missing."""

from __future__ import annotations

import json
from pathlib import Path

from storage.contract.errors import ModelBroken, ModelRefused
from worker.engine.jsonfile import read_object

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")

#: Bytes; the format allows no longer header (safetensors, README, "Format").
LONGEST_HEADER = 100_000_000

_AGAIN = "Download or save the model again."


def check_weights(folder: Path, model: Path | None = None) -> None:
    """Check that a folder's weights can be loaded without running code that lies in them.

    Args:
        folder: Where `model.safetensors`, or the index of its shards, should lie.
        model: The model that the folder is a module of; None where it holds an encoder of transformers' own.

    Raises:
        ModelRefused: When there are only pickled weights, which can run code.
        ModelBroken: When there are none, or a file is cut off or missing.
    """
    if files := weight_files(folder):
        for file in files:
            _check_file(file)
    elif any((folder / name).exists() for name in PICKLES):
        raise ModelRefused(
            f"{folder} holds only pickled weights (pytorch_model.bin), which can run code when they are loaded.",
            f"If you trust the file, convert it {_conversion(folder, model)}",
        )
    else:
        raise ModelBroken(f"{folder} holds no weights ({SINGLE}).", _AGAIN)


def _conversion(folder: Path, model: Path | None) -> str:
    if model is None:
        return f"with transformers: AutoModel.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
    return f"with sentence-transformers: SentenceTransformer({str(model)!r}).save({str(model)!r})"


def weight_files(folder: Path) -> list[Path]:
    """Return the files of safetensors that hold a folder's weights; none where there are none.

    Args:
        folder: Where `model.safetensors`, or the index of its shards, should lie.

    Raises:
        ModelBroken: When shards are missing.
    """
    if (folder / SINGLE).exists():
        return [folder / SINGLE]
    return [folder / shard for shard in _shards(folder / INDEX)] if (folder / INDEX).exists() else []


def _shards(index: Path) -> list[str]:
    placed = read_object(index).get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise ModelBroken(f"{index} names no shards.", _AGAIN)
    shards = sorted({str(shard) for shard in placed.values()})
    missing = [shard for shard in shards if Path(shard).name != shard or not (index.parent / shard).is_file()]
    if missing:
        raise ModelBroken(f"{index.parent} lacks {len(missing)} of {len(shards)} shards: {', '.join(missing)}.", _AGAIN)
    return shards


def _check_file(path: Path) -> None:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            if start == b"version ":
                raise ModelBroken(f"{path} is a Git LFS pointer, not weights.", "Run `git lfs pull` in that folder.")
            length = int.from_bytes(start, "little")
            if len(start) < 8 or not 2 <= length <= min(size - 8, LONGEST_HEADER):
                raise ModelBroken(f"{path} is truncated or is no safetensors file ({size} bytes).", _AGAIN)
            header = json.loads(file.read(length))
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    except OSError as error:
        raise ModelBroken(f"{path} cannot be read ({error.strerror}).") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelBroken(f"{path} has no readable safetensors header.", _AGAIN) from error
    expected = 8 + length + end
    if size != expected:
        raise ModelBroken(f"{path} is truncated or damaged: {size} bytes, its header speaks of {expected}.", _AGAIN)
