"""A worker's tokenizer as everybody may know it, and one text as the encoder reads it; needs no tokenizer itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

from storage.contract.options import PADDINGS

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Tokens:
    """One text as the encoder reads it, for people to look at.

    Args:
        pieces: What is read, special tokens and padding included.
        ids: Their ids.
        mask: 1 where there is a token, 0 where there is padding.
        length: Tokens of the whole text, special tokens included.
        truncated: Whether the text was cut.
        cut: The pieces that are not read.
    """

    pieces: list[str]
    ids: list[int]
    mask: list[int]
    length: int
    truncated: bool
    cut: list[str]


class EncodingLike(Protocol):
    """What a tokenizer makes of a text."""

    @property
    def ids(self) -> list[int]:
        """The ids, special tokens included."""

    @property
    def tokens(self) -> list[str]:
        """The pieces that they stand for."""

    @property
    def special_tokens_mask(self) -> list[int]:
        """1 where there is a special token."""


class TokenizerLike(Protocol):
    """What is needed of the class `Tokenizer` of the package `tokenizers`."""

    def encode(self, sequence: Any) -> EncodingLike:
        """Make the encoding of a text."""

    def id_to_token(self, id: int) -> str | None:
        """Return the piece that an id stands for."""


@dataclass(frozen=True, slots=True)
class TokenRules:
    """How long texts are cut and short ones filled up; no part of the tokenizer itself, whose own rules are cleared.

    Args:
        pad_id: The id that fills up.
        cut_left: Whether a long text loses its beginning instead of its end.
        pad_left: Whether the classic call fills up at the beginning.
        prefix: Special tokens before every text.
        suffix: Special tokens after every text.
    """

    pad_id: int
    cut_left: bool
    pad_left: bool
    prefix: int
    suffix: int

    def to_dict(self) -> dict[str, Any]:
        """Return the rules as a JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TokenRules:
        """Return the rules kept in a JSON object, ignoring fields of later versions."""
        known = cls.__dataclass_fields__
        return cls(**{key: value for key, value in data.items() if key in known})

    def dropped(self, length: int, max_length: int) -> tuple[int, int]:
        """Return the range of tokens that a text loses.

        Args:
            length: Its tokens, special tokens included.
            max_length: Most tokens that are read; fewer than `length`.
        """
        if self.cut_left:
            return self.prefix, self.prefix + length - max_length
        return max_length - self.suffix, length - self.suffix

    def describe(self, tokenizer: TokenizerLike, text: str, max_length: int, padding: str = "longest") -> Tokens:
        """Show one text as the encoder reads it.

        Args:
            tokenizer: The tokenizer whose rules these are.
            text: The text.
            max_length: Most tokens that are read, special tokens included.
            padding: `longest` fills nothing up, there being one text; `max_length` fills up as the classic call does.

        Raises:
            ValueError: When the padding is none of these.
        """
        if padding not in PADDINGS:
            raise ValueError(f"padding must be one of {', '.join(PADDINGS)}, not {padding!r}")
        encoding = tokenizer.encode(text)
        ids, pieces, length = encoding.ids, encoding.tokens, len(encoding.ids)
        cut: list[str] = []
        if length > max_length:
            start, end = self.dropped(length, max_length)
            cut = pieces[start:end]
            ids, pieces = ids[:start] + ids[end:], pieces[:start] + pieces[end:]
        mask = [1] * len(ids)
        missing = max_length - len(ids) if padding == "max_length" else 0
        if missing > 0:
            pad_piece = tokenizer.id_to_token(self.pad_id) or ""
            pieces = self._filled(pieces, [pad_piece] * missing)
            ids = self._filled(ids, [self.pad_id] * missing)
            mask = self._filled(mask, [0] * missing)
        return Tokens(pieces, ids, mask, length, bool(cut), cut)

    def _filled(self, values: list[_T], padding: list[_T]) -> list[_T]:
        return padding + values if self.pad_left else values + padding


@dataclass(frozen=True, slots=True)
class TokenizerFile:
    """A tokenizer that can be built again elsewhere, exactly as a worker's engine has it.

    Args:
        definition: The text of a tokenizer.json, without truncation and padding of its own.
        rules: How texts are cut and filled up.
    """

    definition: str
    rules: TokenRules


def count_special_tokens(mask: Sequence[int]) -> tuple[int, int]:
    """Count the special tokens before and after every text.

    Args:
        mask: Of the encoding of a short text: 1 where there is a special token.
    """
    if 0 not in mask:
        return len(mask), 0
    return list(mask).index(0), list(mask)[::-1].index(0)
