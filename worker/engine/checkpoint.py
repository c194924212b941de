"""A model's files, found and inspected before anything is loaded: what they are, or why they cannot be served."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from storage.contract.errors import ModelBroken, ModelRefused
from storage.contract.models import ModelCard
from worker.engine.architecture import Architecture, read_architecture, refuse_other_tasks
from worker.engine.jsonfile import read_object
from worker.engine.layout import Dense, Layout, read_layout
from worker.engine.source import locate
from worker.engine.weights import check_weights

#: Any of these sets is enough to build a tokenizer from.
_TOKENIZER_FILES = (
    ("tokenizer.json",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
    ("sentencepiece.bpe.model",),
    ("spiece.model",),
    ("spm.model",),
)

#: Tokenizers that transformers has in Python alone: nothing that could be built without it, or handed to others.
_IN_PYTHON_ALONE = frozenset(
    {
        "BartphoTokenizer",
        "BertGenerationTokenizer",
        "BertJapaneseTokenizer",
        "BertweetTokenizer",
        "FlaubertTokenizer",
        "MLukeTokenizer",
        "PhobertTokenizer",
        "RoCBertTokenizer",
        "XLMTokenizer",
    }
)

_SAVE_TOKENIZER = "AutoTokenizer.from_pretrained(...).save_pretrained(folder)"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model that can be served, as its files describe it.

    Args:
        name: Hub name or absolute folder.
        revision: Commit hash of a hub model, else a hash of the folder's content.
        folder: Where the model lies.
        transformer: Where the encoder's config, tokenizer and weights lie: `folder` or a subfolder.
        pooling: Pooling used when a job names none.
        is_assumed: Whether no file says how states are pooled.
        normalize: Whether vectors are normalised when a job does not say.
        dense: Modules between pooling and normalising, in order.
        prompts: Named prompts.
        default_prompt_name: The prompt put before every text when a job names none, or None.
        lower_case: Whether texts are lower-cased before the tokenizer's own normalizer.
        max_length: Most tokens of one text, special tokens included.
        layers: Number of transformer layers.
        hidden: Components of a token state.
        width: Components of a vector.
        truncate_dim: How many components its files have kept of each vector, after normalising; None for all.
    """

    name: str
    revision: str
    folder: Path
    transformer: Path
    pooling: str
    is_assumed: bool
    normalize: bool
    dense: tuple[Dense, ...]
    prompts: dict[str, str]
    default_prompt_name: str | None
    lower_case: bool
    max_length: int
    layers: int
    hidden: int
    width: int
    truncate_dim: int | None

    def card(self, precision: str) -> ModelCard:
        """Return what a worker that loads this checkpoint tells everybody.

        Args:
            precision: `float32`, `half` or `int8`.
        """
        return ModelCard(
            name=self.name,
            revision=self.revision,
            precision=precision,
            width=self.width,
            max_length=self.max_length,
            layers=self.layers,
            pooling=self.pooling,
            # What is cut after it was normalised has length 1 no more, and sentence-transformers leaves it so.
            normalize=self.normalize and self.truncate_dim is None,
            prompts=self.prompts,
            default_prompt_name=self.default_prompt_name,
            hidden=self.hidden if self.hidden != self.width else None,
        )


def resolve(name: str, revision: str | None = None, download: bool = True) -> Checkpoint:
    """Find a model and inspect its files; loads no weights and imports no torch.

    Args:
        name: A folder, or a name on the hub; the default model is taken from its installed package when there is one.
        revision: A hub's branch, tag or commit, or a folder's content hash; None takes what is there.
        download: Whether it may be downloaded when it is nowhere on this machine.

    Raises:
        ModelRefused: When the model is whole but of a kind that is not served.
        ModelBroken: When it is nowhere to be found, incomplete or damaged.
    """
    source = locate(name, revision, download)
    layout = read_layout(source.folder)
    architecture = read_architecture(layout.transformer)
    if layout.is_assumed:
        refuse_other_tasks(layout.transformer)
    check_weights(layout.transformer)
    for dense in layout.dense:
        check_weights(dense.folder, source.folder)
    _check_tokenizer(layout.transformer)
    return Checkpoint(
        name=source.name,
        revision=source.revision,
        folder=source.folder,
        transformer=layout.transformer,
        pooling=layout.pooling,
        is_assumed=layout.is_assumed,
        normalize=layout.normalize,
        dense=layout.dense,
        prompts=layout.prompts,
        default_prompt_name=layout.default_prompt_name,
        lower_case=layout.lower_case,
        max_length=_max_length(layout, architecture),
        layers=architecture.layers,
        hidden=architecture.hidden,
        width=_width(layout, architecture),
        truncate_dim=layout.truncate_dim,
    )


def _check_tokenizer(folder: Path) -> None:
    found = next((names for names in _TOKENIZER_FILES if all((folder / name).is_file() for name in names)), None)
    if found is None:
        raise ModelBroken(
            f"{folder} has no tokenizer (tokenizer.json, vocab.txt, ...).",
            f"Save the tokenizer beside the model: {_SAVE_TOKENIZER}",
        )
    if found == ("tokenizer.json",):
        return
    configs = (read_object(folder / name) for name in ("tokenizer_config.json", "config.json"))
    named = next((str(config["tokenizer_class"]) for config in configs if config.get("tokenizer_class")), "")
    if named in _IN_PYTHON_ALONE:
        raise ModelRefused(
            f"{folder} has a {named}, which transformers has in Python alone, and no tokenizer.json.",
            "Use a model that comes with a tokenizer.json.",
        )
    if found[0].endswith(".model") and find_spec("sentencepiece") is None:
        raise ModelBroken(
            f"{folder} has {found[0]} and no tokenizer.json: to read it takes sentencepiece, which is not installed.",
            f"Install it (pip install sentencepiece protobuf), or save a tokenizer.json where it is: {_SAVE_TOKENIZER}",
        )


def _max_length(layout: Layout, architecture: Architecture) -> int:
    limit = layout.max_seq_length
    if limit is None:
        config = read_object(layout.transformer / "tokenizer_config.json")
        limit = config.get("model_max_length", config.get("max_len"))  # its name before 2020, which transformers reads
    if limit is not None and not isinstance(limit, int | float):
        raise ModelBroken(f"{layout.transformer} has the model_max_length {limit!r}.", "Give it a number.")
    # A tokenizer without a limit says so by an absurd one (1e30), which may be a float.
    return architecture.positions if limit is None else int(min(limit, architecture.positions))


def _width(layout: Layout, architecture: Architecture) -> int:
    width = architecture.hidden
    for dense in layout.dense:
        if dense.inputs != width:
            raise ModelBroken(f"{dense.folder} takes {dense.inputs} components, but is given {width}.")
        width = dense.outputs
    return min(width, layout.truncate_dim or width)
