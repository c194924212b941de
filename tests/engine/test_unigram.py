"""Unigram tokenizers, as multilingual models have them: the ids that transformers' own classes give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer

from storage.contract.options import JobOptions
from tests.engine.unigram import CLASSES, REPLACED, write_unigram
from tests.models import CHARACTERS, WORDS, make_model
from worker.engine.checkpoint import resolve
from worker.engine.engine import Engine
from worker.engine.tokenizing import Tokenizer

PLAIN = ["river stone", "The miller's unaffable neighbour, 1234!", CHARACTERS, " ".join(WORDS * 3), "x" * 300]

#: Texts that the compiled map, blanks and special tokens have a part in.
TEXTS = [
    *PLAIN,
    "  two  blanks \t and\nlines ",
    "the ﬁnest … Ａ flour\u3000mill",
    "Café crème, naïve façade",
    "我们是朋友, and the 火山 is quiet.",
    "a </s> and [SEP] and <mask> within",
    "🙂 unknown ✓",
    "re\u0301e\u0301crit",
]


def ids_of(folder: Path, texts: list[str], max_length: int = 512) -> list[list[int]]:
    found = Tokenizer(resolve(str(folder))).encode(texts, max_length)
    return [part.tolist() for part in np.split(found.ids, found.offsets[1:-1])]


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A model of the family whose class the test names."""
    family, _ = CLASSES[request.param]
    return write_unigram(make_model(tmp_path, family, hidden=64, layers=1), request.param)


@pytest.mark.parametrize("max_length", [3, 7, 512])
@pytest.mark.parametrize("folder", ["XLMRobertaTokenizer", "CamembertTokenizer", "AlbertTokenizer"], indirect=True)
def test_ids_are_those_of_transformers_own_classes(folder: Path, max_length: int) -> None:
    reference = AutoTokenizer.from_pretrained(folder)
    assert type(reference).__name__ in CLASSES
    expected = reference(TEXTS, truncation=True, max_length=max_length)["input_ids"]
    assert ids_of(folder, TEXTS, max_length) == expected


def test_ids_are_the_same_where_files_have_the_form_of_later_versions(tmp_path: Path) -> None:
    folder = make_model(tmp_path, "xlm-roberta", hidden=64, layers=1)
    older = ids_of(write_unigram(folder, "XLMRobertaTokenizer"), TEXTS)
    write_unigram(folder, "XLMRobertaTokenizer", newer=True)
    reference = AutoTokenizer.from_pretrained(folder)
    assert ids_of(folder, TEXTS) == reference(TEXTS, truncation=True, max_length=512)["input_ids"] == older


@pytest.mark.parametrize("folder", CLASSES, indirect=True)
def test_the_compiled_map_is_at_work(folder: Path) -> None:
    spelt, written = (f"the {text} mill" for text in ("ﬁ", REPLACED["ﬁ"]))
    first, second = ids_of(folder, [spelt, written])
    assert first == second


@pytest.mark.parametrize("folder", ["DebertaV2Tokenizer"], indirect=True)
def test_of_deberta_the_ids_are_those_it_was_trained_with(folder: Path) -> None:
    # Given DeBERTa's tokenizer, whose class in transformers 5 leaves the compiled map out of what it builds
    reference = AutoTokenizer.from_pretrained(folder)
    # Then plain texts have the ids of that class
    assert ids_of(folder, PLAIN) == reference(PLAIN, truncation=True, max_length=512)["input_ids"]
    # And all have those of the file, which is what versions before read too
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    assert ids_of(folder, TEXTS) == [encoding.ids for encoding in backend.encode_batch(TEXTS)]
    # And where the map has a part, these differ: once they do not, the exception in docs/models.md is none any more
    assert ids_of(folder, ["ﬁ"]) != reference(["ﬁ"])["input_ids"]


@pytest.mark.parametrize("folder", ["XLMRobertaTokenizer"], indirect=True)
def test_vectors_are_those_of_sentence_transformers(folder: Path) -> None:
    engine = Engine(resolve(str(folder)), cores=1)
    wanted = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(engine.embed(TEXTS, JobOptions()).vectors, wanted, atol=1e-5, rtol=0)
    engine.stop(wait=10)
