"""Ids put together from remembered words are those of the tokenizer itself, or are not put together at all."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

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
    *["[CLS]", "[sep]", "[ MASK ]", "[UNK", "##ing", "q" * 20, "q" * 21, "q" * 101],
]


@pytest.fixture(params=["minilm", "bert", "cased", "lower-cased first", "many around", "pair around", "nothing around"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "minilm":
        return tokenizer_of(request.getfixturevalue("minilm"))
    found = tokenizer_of(resolve(str(request.getfixturevalue("models")["bert"])))
    if request.param == "cased":
        found.normalizer = normalizers.BertNormalizer(lowercase=False)
    if request.param == "lower-cased first":
        found.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.BertNormalizer(lowercase=False)])
    if request.param == "many around":
        names = [(name, found.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
        found.post_processor = processors.TemplateProcessing("[SEP] [CLS] $A [SEP] [SEP] [CLS]", special_tokens=names)
    if request.param == "pair around":
        found.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    if request.param == "nothing around":
        found.post_processor = processors.TemplateProcessing("$A", special_tokens=[])
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
    assert put_together > 1000, "hardly anything was put together"


@pytest.mark.parametrize("text", ["Müller", "mill\0stone", "mill\x0bstone", "a\x7fb", "see [SEP] here", "\ud800"])
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
    tokenizer.add_special_tokens([f"[unused{number}]" for number in range(12)])


def add_what_is_normalized(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens([AddedToken("newyork", normalized=True)])


def be_another_model(tokenizer: Tokenizer) -> None:
    tokenizer.model = models.BPE()


def cut(tokenizer: Tokenizer) -> None:
    tokenizer.enable_truncation(512)


def fill_up(tokenizer: Tokenizer) -> None:
    tokenizer.enable_padding()


def end_as_roberta(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2))


@pytest.mark.parametrize(
    "change",
    [
        divide_at_blanks,
        replace_letters,
        have_no_normalizer,
        add_a_name,
        add_an_accent,
        add_many,
        add_what_is_normalized,
        be_another_model,
        cut,
        fill_up,
        end_as_roberta,
    ],
)
def test_a_tokenizer_of_another_kind_is_asked_for_every_text(
    minilm: Checkpoint, change: Callable[[Tokenizer], None]
) -> None:
    tokenizer = tokenizer_of(minilm)
    assert WordIds.of(tokenizer) is not None
    change(tokenizer)
    assert not wordids.fits(tokenizer) and WordIds.of(tokenizer) is None


def test_byte_level_tokenizers_are_asked_for_every_text(models: dict[str, Path]) -> None:
    assert WordIds.of(tokenizer_of(resolve(str(models["roberta"])))) is None


def test_one_that_answers_otherwise_on_a_trial_is_not_trusted(
    minilm: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tokenizer_of(minilm)
    divide_at_blanks(tokenizer)
    monkeypatch.setattr(wordids, "fits", lambda tokenizer: True)
    assert WordIds.of(tokenizer) is None


def lose_the_unknown(tokenizer: Tokenizer) -> None:
    vocabulary = {"[PAD]": 0, "[CLS]": 2, "[SEP]": 3, "a": 4, "mill": 5}
    tokenizer.model = models.WordPiece(vocabulary, unk_token="[UNK]")


def leave_texts_out(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.TemplateProcessing("[CLS]", special_tokens=[("[CLS]", 2)])


@pytest.mark.parametrize("change", [lose_the_unknown, leave_texts_out])
def test_one_that_fails_on_a_trial_is_not_trusted_and_loads_all_the_same(
    minilm: Checkpoint, change: Callable[[Tokenizer], None]
) -> None:
    tokenizer = tokenizer_of(minilm)
    change(tokenizer)
    assert WordIds.of(tokenizer) is None


def test_what_is_no_text_is_left_to_the_tokenizer(minilm: Checkpoint) -> None:
    words = WordIds.of(tokenizer_of(minilm))
    assert words is not None
    found = words.encode(["river", b"mill", None, ["mill"]])  # type: ignore[list-item]
    assert [ids is None for ids in found] == [False, True, True, True]


class Failing:
    """A tokenizer that fails on whatever it is asked."""

    def encode_batch_fast(self, words: list[str], add_special_tokens: bool) -> list[object]:
        raise RuntimeError("it fails")


def test_where_new_words_cannot_be_asked_for_the_known_ones_are_of_use(minilm: Checkpoint) -> None:
    words = WordIds.of(tokenizer_of(minilm))
    assert words is not None
    (before,) = words.encode(["river"])
    words._tokenizer = Failing()
    assert words.encode(["river", "mill river"]) == [before, None]


def test_no_more_than_so_many_words_are_remembered(minilm: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tokenizer_of(minilm)
    words = WordIds.of(tokenizer)
    assert words is not None
    monkeypatch.setattr(wordids, "MOST_WORDS", 500)
    most = left = 0
    for start in range(0, 5000, 50):
        texts = [f"word{number} mill" for number in range(start, start + 50)]
        for text, ids in zip(texts, words.encode(texts), strict=True):
            left += ids is None
            assert ids in (None, tokenizer.encode(text).ids)
        most = max(most, len(words._known))
    assert 400 <= most <= 500
    # Whenever all are forgotten, the tokenizer is asked for the texts with new words
    assert 0 < left <= 1000
    # Nor are more learned from one call, however many it brings
    many = [f"again{number} mill" for number in range(600)]
    assert words.encode([*many, *many]) == [None] * 1200 and len(words._known) == 0


def test_words_that_never_come_again_and_long_ones_are_not_learned(minilm: Checkpoint) -> None:
    words = WordIds.of(tokenizer_of(minilm))
    assert words is not None
    before = len(words._known)
    # When nearly every word of many is new
    found = words.encode([f"name{number} mill" for number in range(2000)])
    # Then the tokenizer is asked for the texts
    assert found == [None] * 2000 and len(words._known) == before
    # And a long word is never kept
    assert words.encode(["q" * 21, "mill"])[0] is None
    assert max(map(len, words._known)) <= wordids.LONGEST_WORD


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
            for text, ids in zip(texts, words.encode(texts), strict=True):
                if ids not in (None, tokenizer.encode(text).ids):
                    wrong.append(text)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
