"""The ids of words, remembered: what most of English is made of is asked of the tokenizer once, not in every text.

BERT's tokenizers divide a text into words and punctuation before they look anything up, so that a word has the same ids
in every text. In ASCII that division is a pattern. Only there, and only for tokenizers that are known to work so, are
texts put together from their words' ids; all else is left to the tokenizer. A text that is put together takes a fifth
of the tokenizer's processor time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer, Lowercase
from tokenizers.normalizers import Sequence as Several
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing, TemplateProcessing

#: Words that are remembered before all are forgotten, and characters of the longest: some 20 MB, never twice as much.
MOST_WORDS, LONGEST_WORD = 50_000, 20

#: So many new words are always learned; more only if at least every second one came before in the same texts. Names and
#: numbers that never come again would cost more than they save.
_FEW = 1_000

#: Tokens that are looked for in each text as a whole; more would take as long as the tokenizer does.
_MOST_WHOLE = 16

#: Words, and each other character but blanks: punctuation, which is a word of its own, and what is not for us.
_PARTS = re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9 \t\n\r]")

#: All that one may print, in an order that no text has; words long and short, known and unknown.
_TRIAL = " ".join(map(chr, range(33, 127))) + "It's unaffable: re-read `x_1=[2.50]`,\r\n\t" + "q" * 20 + " 0x7F\n"


class WordIds:
    """Remembers words' ids for one tokenizer; may be used by any number of threads.

    Args:
        tokenizer: One for which `fits` holds, without truncation and padding.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}
        #: Tokens that are found in a text before it is divided.
        self._whole = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        self._is_lower = _lowers(tokenizer)
        around = tokenizer.encode("")
        one = tokenizer.encode("a")
        first = one.special_tokens_mask.index(0)
        self._before, self._after = around.ids[:first], around.ids[first:]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> WordIds | None:
        """Return what remembers for a tokenizer, or None where it is of another kind, fails, or answers otherwise."""
        trial = [_TRIAL, _TRIAL.upper(), ""]
        try:
            found = cls(tokenizer) if fits(tokenizer) else None
            if found is not None and found.encode(trial) == [tokenizer.encode(text).ids for text in trial]:
                return found
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # a panic in the tokenizer's own language is no Exception
            pass  # it is asked for each text by itself, and each that it fails on is told
        return None

    def encode(self, texts: Sequence[str]) -> list[list[int] | None]:
        """Return the ids of texts, special tokens included; None for each that the tokenizer itself is to be asked for.

        Args:
            texts: Any number of texts.
        """
        known = self._known  # the same to the end, though another thread may forget all meanwhile
        parts = [self._divide(text) for text in texts]
        found = [self._put_together(words, known) for words in parts]
        waiting = [place for place, words in enumerate(parts) if words is not None and found[place] is None]
        if waiting and self._learn([parts[place] or [] for place in waiting], known):
            for place in waiting:
                found[place] = self._put_together(parts[place], known)
        return found

    def _divide(self, text: str) -> list[str] | None:
        """Return a text's words, or None where it may be divided otherwise."""
        if type(text) is not str or not text.isascii() or any(token in text for token in self._whole):
            return None
        return _PARTS.findall(text.lower() if self._is_lower else text)

    def _put_together(self, words: list[str] | None, known: dict[str, list[int]]) -> list[int] | None:
        if words is None:
            return None
        try:
            return [*self._before, *chain.from_iterable(map(known.__getitem__, words)), *self._after]
        except KeyError:
            return None

    def _learn(self, texts: list[list[str]], known: dict[str, list[int]]) -> bool:
        """Ask for the ids of texts' new words; return whether they are known now.

        Long words and control characters stay unknown: these may vanish, and join what is around them.
        """
        new = set().union(*texts).difference(known)
        if len(new) > _FEW and 2 * len(new) > sum(map(len, texts)):
            return False
        if len(known) + len(new) > MOST_WORDS:
            self._known = {}
            return False
        asked = [word for word in new if len(word) <= LONGEST_WORD and word.isprintable()]
        try:
            encodings = self._tokenizer.encode_batch_fast(asked, add_special_tokens=False)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # as above; whoever has the word is told
            return False
        known.update((word, encoding.ids) for word, encoding in zip(asked, encodings, strict=True))
        return True


def fits(tokenizer: Tokenizer) -> bool:
    """Tell whether a tokenizer divides texts as is written above, and puts the same special tokens around each."""
    added = tokenizer.get_added_tokens_decoder().values()
    return (
        type(tokenizer.model) is WordPiece
        and type(tokenizer.pre_tokenizer) is BertPreTokenizer
        and type(tokenizer.post_processor) in (BertProcessing, TemplateProcessing)
        and all(type(part) in (BertNormalizer, Lowercase) for part in _normalizers(tokenizer))
        and tokenizer.truncation is None
        and tokenizer.padding is None
        and len(added) <= _MOST_WHOLE
        and not any(token.normalized for token in added)
    )


def _normalizers(tokenizer: Tokenizer) -> list[object]:
    own = tokenizer.normalizer
    return [own[place] for place in range(len(own))] if type(own) is Several else [own]


def _lowers(tokenizer: Tokenizer) -> bool:
    return any(type(part) is Lowercase or getattr(part, "lowercase", False) for part in _normalizers(tokenizer))
