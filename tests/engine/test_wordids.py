"""Ids put together from remembered words are those of the tokenizer itself, or are not put together at all."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers, processors

from tests.models import WORDS
from worker.engine import wordids
from worker.engine.checkpoint import Checkpoint, resolve
from worker.engine.tokenizerfiles import load_tokenizer
from worker.engine.wordids import WordIds

#: What texts are strung together from: all of ASCII, words, parts of words, and what the tokenizer knows as a whole.
PIECES = [
    *map(chr, range(128)),
    *WORDS,
    *["The", "unaffable", "MILLER's", "well-known", "re-reading:", "3.14159", "x_1", "0x7fffffff", "a.b@c.d"],
    *["[CLS]", "[sep]", "[ MASK ]", "[UNK", "##ing", "q" * 99, "q" * 101],
]


@pytest.fixture(params=["minilm", "bert", "cased", "lower-cased first"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "minilm":
        return tokenizer_of(request.getfixturevalue("minilm"))
    found = tokenizer_of(resolve(str(request.getfixturevalue("models")["bert"])))
    if request.param == "cased":
        found.normalizer = normalizers.BertNormalizer(lowercase=False)
    if request.param == "lower-cased first":
        found.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.BertNormalizer(lowercase=False)])
    return found


def tokenizer_of(checkpoint: Checkpoint) -> Tokenizer:
    return load_tokenizer(checkpoint.transformer, checkpoint.lower_case).tokenizer


def strung(count: int, seed: int = 1) -> list[str]:
    """Return texts, half of them without what is left to the tokenizer."""
    draw = random.Random(seed)
    plain = [piece for piece in PIECES if piece.isprintable() and "[" not in piece]
    return [
        draw.choice(["", " ", " "]).join(draw.choices(draw.choice([PIECES, plain]), k=draw.randrange(40)))
        for _ in range(count)
    ]


def test_texts_put_together_are_what_the_tokenizer_makes_of_them(tokenizer: Tokenizer) -> None:
    words = WordIds.of(tokenizer)
    assert words is not None
    put_together = 0
    for texts in (strung(1500), strung(1500, seed=2)):
        for text, ids in zip(texts, words.encode(texts), strict=True):
            if ids is not None:
                put_together += 1
                assert ids == tokenizer.encode(text).ids, repr(text)
    assert put_together > 1500, "hardly anything was put together"


@pytest.mark.parametrize(
    "text", ["Müller", "mill\0stone", "mill\x0bstone", "a\x7fb", "see [SEP] here", "see [sep] here", "\ud800"]
)
def test_what_may_be_divided_otherwise_is_left_to_the_tokenizer(minilm: Checkpoint, text: str) -> None:
    words = WordIds.of(tokenizer_of(minilm))
    assert words is not None
    found = words.encode(["river", text, "mill"])
    assert [ids is None for ids in found] == [False, True, False]


def divide_at_blanks(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()


def replace_letters(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace("a", "o"), normalizers.BertNormalizer()])


def have_no_normalizer(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.NFC()


def add_a_name(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens([AddedToken("new york", normalized=True)])


def add_an_accent(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens([AddedToken("Zoé", normalized=True)])


def add_many(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens([f"[unused{number}]" for number in range(100)])


def end_as_roberta(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2))


@pytest.mark.parametrize(
    "change",
    [divide_at_blanks, replace_letters, have_no_normalizer, add_a_name, add_an_accent, add_many, end_as_roberta],
)
def test_a_tokenizer_of_another_kind_is_asked_for_every_text(
    minilm: Checkpoint, change: Callable[[Tokenizer], None]
) -> None:
    tokenizer = tokenizer_of(minilm)
    assert WordIds.of(tokenizer) is not None
    change(tokenizer)
    assert WordIds.of(tokenizer) is None


def test_byte_level_tokenizers_are_asked_for_every_text(models: dict[str, Path]) -> None:
    assert WordIds.of(tokenizer_of(resolve(str(models["roberta"])))) is None


def test_one_that_answers_otherwise_on_a_trial_is_not_trusted(
    minilm: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tokenizer_of(minilm)
    divide_at_blanks(tokenizer)
    monkeypatch.setattr(wordids, "fits", lambda tokenizer: True)
    assert WordIds.of(tokenizer) is None


def test_no_more_than_so_many_words_are_remembered(minilm: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tokenizer_of(minilm)
    words = WordIds.of(tokenizer)
    assert words is not None
    monkeypatch.setattr(wordids, "MOST_WORDS", 500)
    most = 0
    for start in range(0, 5000, 50):
        texts = [f"word{number} mill" for number in range(start, start + 50)]
        assert words.encode(texts) == [tokenizer.encode(text).ids for text in texts]
        most = max(most, len(words._known))
    assert 500 <= most <= 560


def test_threads_that_forget_at_the_same_time_get_what_they_asked_for(
    minilm: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tokenizer_of(minilm)
    words = WordIds.of(tokenizer)
    assert words is not None
    monkeypatch.setattr(wordids, "MOST_WORDS", 20)
    wrong: list[str] = []

    def work(seed: int) -> None:
        for turn in range(40):
            texts = [f"{draw} river {seed} {draw * turn}" for draw in range(20)]
            if words.encode(texts) != [tokenizer.encode(text).ids for text in texts]:
                wrong.append(texts[0])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
