"""The sentence-transformers layout of a folder: which modules follow the encoder, and the prompts before it.

Read as sentence-transformers 6.2 reads it; what would change vectors and is not served is refused, never ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.contract.errors import ModelBroken, ModelRefused
from worker.engine.jsonfile import read_json, read_object

#: Names of pooling modes in new files, and our words for those that are served.
_MODES = {
    "mean": "mean",
    "cls": "cls",
    "max": "max",
    "lasttoken": "last",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean": "weightedmean",
}

#: Switches of old pooling files, and the modes they stand for.
_SWITCHES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}

#: Classes of torch.nn that a dense module may end in.
ACTIVATIONS = frozenset({"ELU", "GELU", "Identity", "LeakyReLU", "Mish", "ReLU", "SELU", "SiLU", "Sigmoid", "Tanh"})

#: Prompts that every model has in sentence-transformers, empty where its files say nothing of them.
_EVERYWHERE = {"query": "", "document": ""}

_TRANSFORMER_CONFIGS = tuple(
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)

#: Settings of the transformer module that would change tokens or states.
_UNSERVED_SETTINGS = (
    "processing_kwargs",
    "tokenizer_args",
    "processor_kwargs",
    "config_args",
    "config_kwargs",
    "tokenizer_name_or_path",
    "query_expansion",
)


@dataclass(frozen=True, slots=True)
class Dense:
    """A linear layer and an activation after pooling.

    Args:
        folder: Where its weights lie.
        inputs: Components that come in.
        outputs: Components that go out.
        bias: Whether it adds a bias.
        activation: Name of a class in torch.nn.
    """

    folder: Path
    inputs: int
    outputs: int
    bias: bool
    activation: str


@dataclass(frozen=True, slots=True)
class Layout:
    """What a folder says of the way from texts to vectors.

    Args:
        transformer: Where the encoder's config, tokenizer and weights lie.
        pooling: `mean`, `cls`, `max`, `last`, `mean_sqrt_len_tokens` or `weightedmean`.
        is_assumed: Whether no file says how states are pooled.
        normalize: Whether vectors are scaled to length 1.
        dense: Modules between pooling and normalising, in order.
        prompts: Named prompts.
        default_prompt_name: The prompt put before every text when a job names none, or None.
        max_seq_length: Most tokens of a text, or None where the tokenizer decides.
        lower_case: Whether texts are lower-cased before the tokenizer's own normalizer.
        truncate_dim: How many components are kept of a vector, after all else, or None for all.
    """

    transformer: Path
    pooling: str = "mean"
    is_assumed: bool = False
    normalize: bool = False
    dense: tuple[Dense, ...] = ()
    prompts: dict[str, str] = field(default_factory=_EVERYWHERE.copy)
    default_prompt_name: str | None = None
    max_seq_length: int | None = None
    lower_case: bool = False
    truncate_dim: int | None = None


def read_layout(folder: Path) -> Layout:
    """Read modules.json and the files it names; a folder without one is an encoder with mean pooling.

    Args:
        folder: A model folder.

    Raises:
        ModelRefused: When a module or setting is not served.
        ModelBroken: When a file is damaged or missing.
    """
    if not (folder / "modules.json").exists():
        return Layout(folder, is_assumed=True)
    # Dropout drops nothing where nothing is trained.
    modules = [(kind, place) for kind, place in _modules(folder) if kind != "Dropout"]
    kinds = [kind for kind, _ in modules]
    if not re.fullmatch(r"Transformer,Pooling(,Dense)*(,Normalize)?", ",".join(kinds)):
        raise ModelRefused(
            f"{folder / 'modules.json'} lists the modules {', '.join(kinds)}.",
            "Served are: Transformer, Pooling, any number of Dense, and Normalize at the end.",
        )
    transformer = modules[0][1]
    settings = _transformer_settings(transformer)
    whole = _whole(folder)
    prompts, default = _prompts(folder, whole)
    if kinds[-1] == "Normalize":
        _refuse_other_features(modules[-1][1] / "config.json", read_object(modules[-1][1] / "config.json"))
    return Layout(
        transformer=transformer,
        pooling=_pooling(modules[1][1] / "config.json"),
        normalize=kinds[-1] == "Normalize",
        dense=tuple(_dense(place) for kind, place in modules if kind == "Dense"),
        prompts=prompts,
        default_prompt_name=default,
        max_seq_length=settings.get("max_seq_length"),
        lower_case=bool(settings.get("do_lower_case")),
        truncate_dim=_truncate_dim(folder, whole),
    )


def _modules(folder: Path) -> list[tuple[str, Path]]:
    listed = read_json(folder / "modules.json")
    try:
        found = [(str(entry["type"]), str(entry["path"])) for entry in listed]
    except (TypeError, KeyError) as error:
        raise ModelBroken(f"{folder / 'modules.json'} is no list of modules.", "Save the model again.") from error
    modules = []
    for type_path, place in found:
        if not type_path.startswith("sentence_transformers."):
            raise ModelRefused(
                f"The module {type_path} of {folder} is code of its own, which is never run.",
                "Use a model made of sentence-transformers' own modules.",
            )
        if Path(place).is_absolute() or ".." in Path(place).parts:
            raise ModelRefused(f"A module of {folder} lies outside the folder ({place}).")
        modules.append((type_path.rpartition(".")[2], folder / place))
    return modules


def _transformer_settings(folder: Path) -> dict[str, Any]:
    found = ((folder / name, read_object(folder / name)) for name in _TRANSFORMER_CONFIGS)
    path, settings = next(((path, each) for path, each in found if each), (folder, {}))
    unserved = [name for name in _UNSERVED_SETTINGS if settings.get(name)]
    if settings.get("transformer_task", "feature-extraction") != "feature-extraction":
        unserved.append("transformer_task")
    if settings.get("module_output_name", "token_embeddings") != "token_embeddings":
        unserved.append("module_output_name")
    if unserved:
        raise ModelRefused(f"{path} sets {', '.join(unserved)}, which is not served.")
    longest = settings.get("max_seq_length")
    if longest is not None and (not isinstance(longest, int) or longest < 1):
        raise ModelBroken(f"{path} has the max_seq_length {longest!r}.", "Give it a whole number or null.")
    return settings


def _pooling(path: Path) -> str:
    if not path.is_file():
        raise ModelBroken(f"{path} is missing: the pooling module has no configuration.", "Save the model again.")
    config = read_object(path)
    if config.get("include_prompt", True) is False:
        raise ModelRefused(
            f"{path} says include_prompt=false: its prompts are left out of the pooling, which is not served.",
            "Use a model whose prompts are pooled with the text.",
        )
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for switch, mode in _SWITCHES.items() if config.get(switch)] or ["mean"]
    modes = [str(mode) for mode in (modes if isinstance(modes, list) else [modes])]
    if len(modes) != 1 or modes[0] not in _MODES:
        raise ModelRefused(
            f"{path} asks for the pooling {' and '.join(modes)}.", f"Served is one of: {', '.join(_MODES)}."
        )
    return _MODES[modes[0]]


def _dense(folder: Path) -> Dense:
    path = folder / "config.json"
    config = read_object(path)
    inputs, outputs = config.get("in_features"), config.get("out_features")
    if not isinstance(inputs, int) or not isinstance(outputs, int):
        raise ModelBroken(f"{path} does not say in_features and out_features.", "Save the model again.")
    place, sep, activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")
    if not sep or not place.startswith("torch.nn") or activation not in ACTIVATIONS:
        raise ModelRefused(f"{path} has the activation {activation}.", f"Served are: {', '.join(sorted(ACTIVATIONS))}.")
    if config.get("use_residual"):
        raise ModelRefused(f"{path} has a residual connection, which is not served.")
    _refuse_other_features(path, config)
    return Dense(folder, inputs, outputs, bool(config.get("bias", True)), activation)


def _refuse_other_features(path: Path, config: dict[str, Any]) -> None:
    names = {config.get(name) or "sentence_embedding" for name in ("module_input_name", "module_output_name")}
    if names != {"sentence_embedding"}:
        raise ModelRefused(f"{path} works on {', '.join(sorted(map(str, names)))}, not on the pooled vector.")


def _whole(folder: Path) -> dict[str, Any]:
    """Return what is said of the model as a whole."""
    path = folder / "config_sentence_transformers.json"
    config = read_object(path)
    kind = config.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise ModelRefused(f"{path} describes a {kind}, whose output is not one dense vector a text.")
    return config


def _truncate_dim(folder: Path, whole: dict[str, Any]) -> int | None:
    found = whole.get("truncate_dim")
    if found is not None and (not isinstance(found, int) or isinstance(found, bool) or found < 1):
        place = folder / "config_sentence_transformers.json"
        raise ModelBroken(f"{place} has the truncate_dim {found!r}.", "Give it a whole number or null.")
    return found


def _prompts(folder: Path, whole: dict[str, Any]) -> tuple[dict[str, str], str | None]:
    path = folder / "config_sentence_transformers.json"
    told = whole.get("prompts") or {}
    if not isinstance(told, dict):
        raise ModelBroken(f"The prompts in {path} are no JSON object.", "Mend that file.")
    prompts = _EVERYWHERE | {str(name): str(text or "") for name, text in told.items()}
    default = whole.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise ModelBroken(f"{path} names the default prompt {default!r}, but has no such prompt.", "Mend that file.")
    return prompts, default
