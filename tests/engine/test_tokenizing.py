"""Encodings equal to transformers' own, text by text and cut by cut."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from storage.contract.options import JobOptions
from tests.models import CHARACTERS, WORDS, make_model, write_json
from worker.engine.checkpoint import Checkpoint, resolve
from worker.engine.engine import Engine
from worker.engine.oncetokenizer import OnceTokenizer
from worker.engine.tokenizing import SLICE_TEXTS, Tokenizer

TEXTS = [
    "",
    " ",
    "a",
    "The miller's unaffable neighbour, 1234!",
    "我们是朋友, and the river 火山 is quiet.",
    "Héllo wörld\ttabs\nlines  and   blanks",
    "nul\0inside and 🙂 emoji",
    "[CLS] special [SEP] <s> words </s>",
    " ".join(WORDS * 8),
    CHARACTERS * 20,
    "x" * 300,
]


def ids_of(tokenizer: Tokenizer, texts: list[str], max_length: int) -> list[list[int]]:
    found = tokenizer.encode(texts, max_length)
    return [part.tolist() for part in np.split(found.ids, found.offsets[1:-1])]


@pytest.fixture(params=["minilm", "bert", "roberta", "distilbert"])
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    if request.param == "minilm":
        found: Checkpoint = request.getfixturevalue("minilm")
        return found
    return resolve(str(request.getfixturevalue("models")[request.param]))


@pytest.mark.parametrize("max_length", [3, 4, 7, 128, 512])
def test_cutting_equals_transformers(checkpoint: Checkpoint, max_length: int) -> None:
    reference = AutoTokenizer.from_pretrained(checkpoint.transformer)
    expected = reference(TEXTS, truncation=True, max_length=max_length)["input_ids"]
    assert ids_of(Tokenizer(checkpoint), TEXTS, max_length) == expected


def test_lengths_are_those_of_the_whole_texts(checkpoint: Checkpoint) -> None:
    reference = AutoTokenizer.from_pretrained(checkpoint.transformer)
    found = Tokenizer(checkpoint).encode(TEXTS, 7)
    assert found.lengths.tolist() == [len(ids) for ids in reference(TEXTS, truncation=False)["input_ids"]]
    assert found.tokens.tolist() == np.minimum(found.lengths, 7).tolist()
    assert (found.ids.dtype, found.offsets.dtype, found.lengths.dtype) == (np.int32, np.int64, np.int32)


def test_a_tokenizer_that_cuts_at_the_left_does_so_here(tmp_path: Path) -> None:
    folder = make_model(tmp_path, hidden=64, layers=1)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    write_json(folder / "tokenizer_config.json", settings | {"truncation_side": "left"})
    reference = AutoTokenizer.from_pretrained(folder)
    tokenizer = Tokenizer(resolve(str(folder)))
    assert ids_of(tokenizer, TEXTS, 9) == reference(TEXTS, truncation=True, max_length=9)["input_ids"]
    text = "river stone mill wheel grain flour bread"
    assert tokenizer.describe(text, 5).pieces == ["[CLS]", "grain", "flour", "bread", "[SEP]"]
    assert tokenizer.describe(text, 5).cut == ["river", "stone", "mill", "wheel"]


@pytest.mark.parametrize("kind", ["ernie", "nomic_bert"])
def test_families_without_a_named_class_have_berts(tmp_path: Path, kind: str) -> None:
    # Given a folder that names no class, whose tokenizer.json keeps capitals
    folder = make_model(tmp_path, kind, hidden=64, layers=1)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    write_json(folder / "tokenizer_config.json", {name: settings[name] for name in settings if name[:9] != "tokenizer"})
    data = json.loads((folder / "tokenizer.json").read_text())
    data["normalizer"]["lowercase"] = False
    write_json(folder / "tokenizer.json", data)
    # Then it is read as transformers reads it, which takes them away
    reference = AutoTokenizer.from_pretrained(folder)
    expected = reference(TEXTS, truncation=True, max_length=64)["input_ids"]
    assert ids_of(Tokenizer(resolve(str(folder))), TEXTS, 64) == expected
    assert ids_of(Tokenizer(resolve(str(folder))), ["River"], 64) == reference(["river"])["input_ids"]


@pytest.mark.parametrize("cased", [True, False])
@pytest.mark.parametrize("named", ["BertTokenizer", "PreTrainedTokenizerFast", None])
def test_files_that_disagree_on_case_are_read_as_transformers_reads_them(
    tmp_path: Path, named: str | None, cased: bool
) -> None:
    folder = make_model(tmp_path, hidden=64, layers=1)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"do_lower_case": not cased, "tokenizer_class": named}
    if named is None:
        del settings["tokenizer_class"], settings["do_lower_case"]
    write_json(folder / "tokenizer_config.json", settings)
    data = json.loads((folder / "tokenizer.json").read_text())
    data["normalizer"]["lowercase"] = cased
    write_json(folder / "tokenizer.json", data)
    reference = AutoTokenizer.from_pretrained(folder)
    assert (
        ids_of(Tokenizer(resolve(str(folder))), TEXTS, 64)
        == reference(TEXTS, truncation=True, max_length=64)["input_ids"]
    )


def test_a_folder_with_only_a_vocabulary_list_is_read_too(tmp_path: Path) -> None:
    folder = make_model(tmp_path, hidden=64, layers=1)
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)) + "\n", "utf-8")
    before = ids_of(Tokenizer(resolve(str(folder))), TEXTS, 32)
    (folder / "tokenizer.json").unlink()
    assert ids_of(Tokenizer(resolve(str(folder))), TEXTS, 32) == before


@pytest.mark.parametrize("max_length", [6, 512])
@pytest.mark.parametrize("text", TEXTS)
def test_a_description_equals_the_classic_call(minilm: Checkpoint, text: str, max_length: int) -> None:
    reference = AutoTokenizer.from_pretrained(minilm.transformer)
    classic = reference(text, truncation=True, padding="max_length", max_length=max_length)
    shown = Tokenizer(minilm).describe(text, max_length, "max_length")
    assert shown.ids == classic["input_ids"]
    assert shown.mask == classic["attention_mask"]
    assert shown.pieces == reference.convert_ids_to_tokens(classic["input_ids"])
    whole = reference(text)["input_ids"]
    assert (shown.length, shown.truncated) == (len(whole), len(whole) > max_length)
    assert shown.cut == reference.convert_ids_to_tokens(whole[max_length - 1 : -1] if shown.truncated else [])


@pytest.mark.parametrize("kind", ["roberta", "distilbert"])
def test_a_description_pads_with_the_models_own_piece(models: dict[str, Path], kind: str) -> None:
    reference = AutoTokenizer.from_pretrained(models[kind])
    classic = reference("river mill", truncation=True, padding="max_length", max_length=12)
    shown = Tokenizer(resolve(str(models[kind]))).describe("river mill", 12, "max_length")
    assert (shown.ids, shown.mask) == (classic["input_ids"], classic["attention_mask"])
    assert shown.pieces[-1] == reference.pad_token


def test_a_description_without_padding_has_the_texts_own_length(minilm: Checkpoint) -> None:
    shown = Tokenizer(minilm).describe("我爱 unaffable", 512)
    assert shown.pieces == ["[CLS]", "我", "[UNK]", "una", "##ffa", "##ble", "[SEP]"]
    assert (shown.mask, shown.length, shown.truncated, shown.cut) == ([1] * 7, 7, False, [])


def test_a_text_that_breaks_the_tokenizer_costs_only_itself(minilm: Checkpoint) -> None:
    found = Tokenizer(minilm).encode(["river", "lone \ud800 surrogate", "mill"], 16)
    assert list(found.errors) == [1]
    assert found.errors[1].code == "tokenizer_failed"
    assert "surrogate" not in found.errors[1].message
    assert found.lengths.tolist() == [3, 0, 3]
    assert (
        found.ids.tolist() == ids_of(Tokenizer(minilm), ["river"], 16)[0] + ids_of(Tokenizer(minilm), ["mill"], 16)[0]
    )


def test_more_texts_than_one_slice_keep_their_order_and_their_errors(minilm: Checkpoint) -> None:
    texts = [WORDS[i % len(WORDS)] for i in range(SLICE_TEXTS + 10)]
    broken = SLICE_TEXTS + 3
    tokenizer = Tokenizer(minilm)
    expected = ids_of(tokenizer, texts[-4:], 16)
    texts[broken] = "\ud800"
    found = tokenizer.encode(texts, 16)
    assert list(found.errors) == [broken]
    assert [part.tolist() for part in np.split(found.ids, found.offsets[1:-1])][-4:] == expected


def test_no_texts_make_no_encodings(minilm: Checkpoint) -> None:
    found = Tokenizer(minilm).encode([], 16)
    assert (found.ids.size, found.offsets.tolist(), found.lengths.size) == (0, [0], 0)


def test_a_tokenizer_for_measurements_reads_the_same_texts_once(
    minilm: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a tokenizer that remembers, and an engine that has embedded some texts with it, two of them alike
    read: list[int] = []
    real = Tokenizer.encode
    monkeypatch.setattr(Tokenizer, "encode", lambda self, *given: read.append(len(given[0])) or real(self, *given))
    once = OnceTokenizer(minilm)
    engine = Engine(minilm, tokenizer=once, cores=1)
    read.clear()
    texts = ["river stone", "mill", "mill"]
    first = engine.embed(texts, JobOptions(max_length=16)).vectors
    # When they are embedded again, it reads nothing, and the vectors are the same; another cut is read anew
    assert (engine.embed(list(texts), JobOptions(max_length=16)).vectors == first).all() and read == [2]
    engine.embed(texts, JobOptions(max_length=8))
    assert read == [2, 2]
    engine.stop(wait=10)


def test_threads_share_one_tokenizer(minilm: Checkpoint) -> None:
    tokenizer = Tokenizer(minilm)
    expected = {n: ids_of(tokenizer, TEXTS, n) for n in (4, 9, 16, 64)}
    wrong: list[int] = []

    def tokenize(max_length: int) -> None:
        for _ in range(20):
            if ids_of(tokenizer, TEXTS, max_length) != expected[max_length]:
                wrong.append(max_length)

    threads = [threading.Thread(target=tokenize, args=(n,)) for n in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_looking_at_tokens_imports_no_torch() -> None:
    program = (
        "import sys; from worker.engine.checkpoint import resolve; from worker.engine.tokenizing import Tokenizer;"
        "Tokenizer(resolve('sentence-transformers/all-MiniLM-L6-v2')).describe('river', 8);"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
