"""Small model folders with random weights and generated vocabularies, for tests that need a model and no hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_TEXT = """
the a of and to in is was for on with as by at from or an be this which are not have has it he she they we
river stone mill wheel grain flour bread miller water spring winter summer autumn morning evening night
letter paper ink harbour lantern copper garden mountain valley bridge window door table chair kitchen market
merchant sailor captain teacher doctor farmer painter singer dancer writer reader traveller neighbour
walks sings writes reads carries builds opens closes remembers forgets finds loses follows answers asks
quiet bright heavy narrow ancient bitter gentle sudden hollow golden crimson silver frozen endless
unaffable chemistry algebra thunder horizon compass orchard cathedral violin telescope
"""

#: Words that every generated vocabulary knows whole; whatever else falls apart into letters.
WORDS = _TEXT.split()

#: Chinese characters that every generated vocabulary knows, each a piece of its own.
CHARACTERS = (
    "我你他她们是的了在有不这那人大小上下中国家学生老师朋友天地山水火木金土日月星风雨雪花草树鱼鸟马牛羊书字画茶饭酒"
)

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?'\"()-，。！？"

#: The Auto classes' names of the families whose networks are built here, with what their configurations need besides.
_SHAPES: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 32},
    "bert": {},
    "camembert": {"max_position_embeddings": 514, "pad_token_id": 1},
    "deberta": {},
    "deberta-v2": {},
    "distilbert": {},
    "electra": {"embedding_size": 32},
    "ernie": {"use_task_id": True},
    "eurobert": {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 1},
    "gte": {"pad_token_id": 1},
    "jina_embeddings_v3": {"pad_token_id": 1},
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 16},
    "mpnet": {"max_position_embeddings": 514, "pad_token_id": 1},
    "nomic_bert": {},
    "roberta": {"max_position_embeddings": 514, "pad_token_id": 1},
    "xlm-roberta": {"max_position_embeddings": 514, "pad_token_id": 1},
}

_BYTE_LEVEL = frozenset(
    {"camembert", "deberta", "eurobert", "gte", "jina_embeddings_v3", "modernbert", "roberta", "xlm-roberta"}
)

FAMILIES = tuple(sorted(_SHAPES))


def make_model(
    folder: Path, kind: str = "bert", hidden: int = 768, layers: int = 2, seed: int = 7, **settings: Any
) -> Path:
    """Make a model folder: config.json, model.safetensors, tokenizer.json and tokenizer_config.json.

    Args:
        folder: Where to; made when it is not there.
        kind: A family: `bert`, `roberta`, `distilbert`, ...
        hidden: Components of a token state; a multiple of 64.
        layers: Number of transformer layers.
        seed: What the random weights come from: the same seed makes the same model.
        settings: Whatever else the configuration is to say.

    Returns:
        The folder.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = _make_tokenizer(folder, kind)
    shape = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "intermediate_size": hidden * 2,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
    }
    if kind == "distilbert":
        shape |= {"dim": hidden, "n_layers": layers, "n_heads": hidden // 64, "hidden_dim": hidden * 2}
    config = AutoConfig.for_model(kind, **(shape | _SHAPES[kind] | settings))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = AutoModel.from_config(config)
        with torch.no_grad():
            # Fresh weights are so small that every text would get nearly the same vector.
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    network.save_pretrained(folder)
    return folder


def write_json(path: Path, data: Any) -> None:
    """Write a JSON file, and the folders it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")


def edit_json(path: Path, **changes: Any) -> None:
    """Change entries of a JSON object, in a file that may be missing; None removes one."""
    data = json.loads(path.read_text()) if path.exists() else {}
    write_json(path, {name: value for name, value in (data | changes).items() if value is not None})


def add_layout(
    folder: Path,
    pooling: dict[str, Any] | None = None,
    normalize: bool = False,
    settings: dict[str, Any] | None = None,
    prompts: dict[str, str] | None = None,
    default_prompt_name: str | None = None,
) -> Path:
    """Give a model folder the files of the sentence-transformers layout.

    Args:
        folder: A model folder.
        pooling: The pooling module's config.json; mean when None.
        normalize: Whether a Normalize module ends it.
        settings: sentence_bert_config.json, or None for none.
        prompts: Named prompts.
        default_prompt_name: Which of them is put before every text.
    """
    place = "sentence_transformers.models"
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")] + ([("Normalize", "2_Normalize")] if normalize else [])
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"{place}.{kind}"} for i, (kind, path) in enumerate(modules)
    ]
    write_json(folder / "modules.json", listed)
    hidden = json.loads((folder / "config.json").read_text()).get("hidden_size", 768)
    default = {"word_embedding_dimension": hidden, "pooling_mode_mean_tokens": True}
    write_json(folder / "1_Pooling" / "config.json", pooling or default)
    (folder / "2_Normalize").mkdir(exist_ok=True)
    if settings is not None:
        write_json(folder / "sentence_bert_config.json", settings)
    if prompts is not None:
        data = {"prompts": prompts, "default_prompt_name": default_prompt_name}
        write_json(folder / "config_sentence_transformers.json", data)
    return folder


def _make_tokenizer(folder: Path, kind: str) -> int:
    """Write the tokenizer's files and return the size of its vocabulary."""
    byte_level = kind in _BYTE_LEVEL
    tokenizer = _byte_level() if byte_level else _wordpiece(kind)
    tokenizer.save(str(folder / "tokenizer.json"))
    roberta_like = byte_level or kind == "mpnet"
    pad, unknown = ("<pad>", "<unk>" if byte_level else "[UNK]") if roberta_like else ("[PAD]", "[UNK]")
    start, end = ("<s>", "</s>") if roberta_like else ("[CLS]", "[SEP]")
    named = {"bert": "BertTokenizer", "distilbert": "DistilBertTokenizer", "mpnet": "MPNetTokenizer"}
    settings = {
        "tokenizer_class": named.get(kind, "RobertaTokenizer" if kind == "roberta" else "PreTrainedTokenizerFast"),
        "pad_token": pad,
        "unk_token": unknown,
        "cls_token": start,
        "sep_token": end,
        "mask_token": "<mask>" if roberta_like else "[MASK]",
        "model_max_length": 512,
    }
    if kind in ("bert", "distilbert", "mpnet"):
        settings["do_lower_case"] = True
    if roberta_like:
        settings |= {"bos_token": start, "eos_token": end}
    write_json(folder / "tokenizer_config.json", settings)
    return int(tokenizer.get_vocab_size())


def _wordpiece(kind: str) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    if kind == "mpnet":
        special = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]
    start, end = ("<s>", "</s>") if kind == "mpnet" else ("[CLS]", "[SEP]")
    letters = sorted(set(_LETTERS.lower()))
    pieces = [*special, *letters, *(f"##{letter}" for letter in letters), *WORDS, *CHARACTERS]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} $B:1 {end}:1",
        special_tokens=[(start, vocabulary[start]), (end, vocabulary[end])],
    )
    tokenizer.add_special_tokens(special)
    return tokenizer


def _byte_level() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS), CHARACTERS], trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", tokenizer.token_to_id("</s>")), ("<s>", tokenizer.token_to_id("<s>")), True, False
    )
    return tokenizer
