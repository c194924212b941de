"""Texts to encodings, exactly as `tokenizer(text, truncation=True, max_length=n)` makes them; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from storage.contract.tokens import TokenizerFile, TokenRules, Tokens, count_special_tokens
from storage.outcomes import ItemError
from worker.engine.tokenizerfiles import load_tokenizer
from worker.engine.wordids import WordIds

#: Texts, and characters, that are tokenized in one call: enough for every core, few enough that the tokenizer's own
#: records (about 100 bytes a token) stay small.
SLICE_TEXTS = 1024
SLICE_CHARACTERS = 1_000_000


NO_TOKEN = ItemError("tokenizer_failed", "The tokenizer finds no token in this text.")


class TokenizerSource(Protocol):
    """What a tokenizer is built from; a `Checkpoint` is one."""

    @property
    def transformer(self) -> Path:
        """Where the tokenizer's files lie."""

    @property
    def lower_case(self) -> bool:
        """Whether texts are lower-cased before the tokenizer's own normalizer."""


@dataclass(frozen=True, slots=True)
class Encodings:
    """The encodings of some texts, end to end.

    Args:
        ids: int32, the ids that are read, text after text.
        offsets: int64, shape (texts + 1,): text i has `ids[offsets[i]:offsets[i + 1]]`.
        lengths: int32, shape (texts,): tokens of the whole text, special tokens included, before it was cut.
        errors: By place: why a text has no encoding.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int32]
    errors: dict[int, ItemError] = field(default_factory=dict)

    @property
    def tokens(self) -> NDArray[np.int32]:
        """How many tokens are read of each text, shape (texts,)."""
        return np.diff(self.offsets).astype(np.int32)


class Tokenizer:
    """A checkpoint's tokenizer; never changed once it is built, so that any number of threads may use it.

    Args:
        source: What to build it from.
        remembering: Whether words' ids are remembered where that can be done: a fraction of the work, but one core's
            alone, where the tokenizer itself takes all that are free.

    Raises:
        ModelBroken: When the tokenizer's files are damaged.
    """

    def __init__(self, source: TokenizerSource, remembering: bool = True) -> None:
        files = load_tokenizer(source.transformer, source.lower_case)
        self.pad_id = files.pad_id
        self._tokenizer = files.tokenizer
        self._words = WordIds.of(files.tokenizer) if remembering else None
        special = count_special_tokens(files.tokenizer.encode("a").special_tokens_mask)
        self._rules = TokenRules(files.pad_id, files.cut_left, files.pad_left, *special)

    @property
    def special_tokens(self) -> int:
        """How many tokens are put around every text."""
        return self._rules.prefix + self._rules.suffix

    def encode(self, texts: Sequence[str], max_length: int) -> Encodings:
        """Tokenize texts; one that cannot be tokenized, or has no token, becomes its own error and nobody else's.

        Args:
            texts: Any number of texts.
            max_length: Most tokens that are read of each, special tokens included.
        """
        flat: list[NDArray[np.int32]] = []
        lengths: list[int] = []
        errors: dict[int, ItemError] = {}
        for slice_ in _slices(texts):
            found = self._encode_slice(slice_, len(lengths), errors)
            if not all(found):
                _note_empty(found, len(lengths), errors)
            lengths.extend(map(len, found))
            cut = [ids if len(ids) <= max_length else self._cut(ids, max_length) for ids in found]
            flat.append(np.fromiter(chain.from_iterable(cut), np.int32, sum(map(len, cut))))
        whole = np.array(lengths, np.int32)
        offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum(np.minimum(whole, max_length), out=offsets[1:])
        return Encodings(np.concatenate(flat) if flat else np.zeros(0, np.int32), offsets, whole, errors)

    def describe(self, text: str, max_length: int, padding: str = "longest") -> Tokens:
        """Show one text as the encoder reads it.

        Args:
            text: The text.
            max_length: Most tokens that are read, special tokens included.
            padding: `longest` fills nothing up, there being one text; `max_length` fills up as the classic call does.
        """
        return self._rules.describe(self._tokenizer, text, max_length, padding)

    def to_file(self) -> TokenizerFile:
        """Return all that is needed to build it again elsewhere."""
        return TokenizerFile(self._tokenizer.to_str(), self._rules)

    def _encode_slice(self, texts: list[str], first: int, errors: dict[int, ItemError]) -> list[list[int]]:
        if self._words is None:
            return self._ask(texts, range(first, first + len(texts)), errors)
        found = self._words.encode(texts)
        left = [place for place, ids in enumerate(found) if ids is None]
        asked = iter(self._ask([texts[place] for place in left], [first + place for place in left], errors))
        return [next(asked) if ids is None else ids for ids in found]

    def _ask(self, texts: list[str], places: Sequence[int], errors: dict[int, ItemError]) -> list[list[int]]:
        try:
            return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # a panic in the tokenizer's own language is no Exception
            return [self._encode_alone(text, place, errors) for text, place in zip(texts, places, strict=True)]

    def _encode_alone(self, text: str, place: int, errors: dict[int, ItemError]) -> list[int]:
        try:
            return list(self._tokenizer.encode_batch_fast([text])[0].ids)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            kind = type(error).__name__
            errors[place] = ItemError("tokenizer_failed", f"The tokenizer failed on this text ({kind}).")
            return []

    def _cut(self, ids: list[int], max_length: int) -> list[int]:
        start, end = self._rules.dropped(len(ids), max_length)
        return ids[:start] + ids[end:]


def _note_empty(found: list[list[int]], first: int, errors: dict[int, ItemError]) -> None:
    """Give each text without a token its error: laid end to end, its place in a batch is its neighbour's."""
    for place, ids in enumerate(found, first):
        if not ids:
            errors.setdefault(place, NO_TOKEN)


def _slices(texts: Sequence[str]) -> Iterator[list[str]]:
    held: list[str] = []
    characters = 0
    for text in texts:
        held.append(text)
        characters += len(text)
        if len(held) >= SLICE_TEXTS or characters >= SLICE_CHARACTERS:
            yield held
            held, characters = [], 0
    if held:
        yield held
