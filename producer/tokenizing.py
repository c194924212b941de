"""Texts to tokens on the asking side, with the tokenizer that a worker registered: no model, no torch."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from producer.client import Client
from storage.contract.errors import InvalidOption, MissingExtra, TokenizerMissing, TooLarge, UnknownModel
from storage.contract.models import ModelCard
from storage.contract.options import JobOptions, check_word
from storage.contract.tokens import TokenRules, Tokens
from storage.tokenizers import TokenizerStore

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_T = TypeVar("_T")

#: Most tokenizers that are held ready; one with a vocabulary of 250,000 takes about 100 MB.
MOST_HELD = 4

#: One more than the largest id there can be.
_IDS = 1 << 32


@dataclass(frozen=True, slots=True)
class ModelTokenizer:
    """The tokenizer of one model, exactly as its worker has it; may be used by several threads.

    Args:
        card: The model identity.
        tokenizer: Without truncation and padding of its own.
        rules: How long texts are cut and short ones filled up.
    """

    card: ModelCard
    tokenizer: Tokenizer
    rules: TokenRules

    def describe(self, text: str, options: JobOptions) -> Tokens:
        """Show one text as the encoder reads it; see the function `describe`."""
        options.check_against(self.card)
        whole, most = options.prompt_for(self.card) + text, options.max_length or self.card.max_length
        return _guarded(lambda: self.rules.describe(self.tokenizer, whole, most, options.padding))

    def encode(self, texts: Sequence[str], add_special_tokens: bool = True) -> list[Any]:
        """Return the encodings of whole texts, as the package `tokenizers` has them.

        Args:
            texts: Any number of texts.
            add_special_tokens: Whether those before and after every text are among them.

        Raises:
            InvalidOption: When the tokenizer fails on one of them.
        """
        return _guarded(lambda: self.tokenizer.encode_batch(list(texts), add_special_tokens=add_special_tokens))

    def decode(self, ids: Sequence[Sequence[int]], skip_special_tokens: bool = True) -> list[str]:
        """Return the texts that ids stand for.

        Args:
            ids: Those of each text.
            skip_special_tokens: Whether special tokens are left out.

        Raises:
            InvalidOption: When the vocabulary does not have one of them.
        """
        given = [list(some) for some in ids]
        if any(not 0 <= one < _IDS or self.tokenizer.id_to_token(one) is None for some in given for one in some):
            raise InvalidOption(
                f"{self.card.name} has no token of one of these ids.",
                f"It has {self.tokenizer.get_vocab_size():,} tokens.",
            )
        return _guarded(lambda: self.tokenizer.decode_batch(given, skip_special_tokens=skip_special_tokens))


def describe(
    client: Client,
    text: str,
    *,
    model: str | None = None,
    max_length: int | None = None,
    padding: str = "longest",
    prompt: str | None = None,
    prompt_name: str | None = None,
) -> tuple[ModelCard, Tokens]:
    """Show one text as a model's encoder reads it: the same as `embedmill tokens` shows.

    Args:
        client: Whose models and limits these are.
        text: The text.
        model: Hub name or folder. Default: the client's.
        max_length: Most tokens that are read, special tokens included. Default: the model's.
        padding: `longest` fills nothing up, there being one text; `max_length` fills up as the classic call does.
        prompt: Put before the text. Default: the model's own, as of a job.
        prompt_name: One of the model's own prompts instead.

    Raises:
        InvalidOption: When an option does not fit the model, or the text cannot be tokenized.
        TooLarge: When the text is longer than texts may be.
        UnknownModel: When no worker has ever served the model and it is not the default.
        TokenizerMissing: When no worker has registered its tokenizer yet.
    """
    check_texts(client, [text])
    options = JobOptions(max_length=max_length, padding=padding, prompt=prompt, prompt_name=prompt_name)
    found = tokenizer_of(client, model)
    return found.card, found.describe(text, options)


def tokenizer_of(client: Client, model: str | None = None) -> ModelTokenizer:
    """Return the tokenizer of a model: of the identity that a new job would be bound to.

    Args:
        client: Whose models these are.
        model: Hub name or folder. Default: the client's.

    Raises:
        UnknownModel: When no worker has ever served the model and it is not the default.
        TokenizerMissing: When no worker has registered its tokenizer yet.
    """
    check_word("model", model)
    default, wanted = client.named(None), client.named(model)
    served = client.stores.workers.find(wanted)
    if not served and wanted != default:
        raise UnknownModel(
            f"No worker has ever served {wanted}.", f"Start one: embedmill up (or worker) --model {wanted}"
        )
    for one in served:
        digest = client.stores.tokenizers.digest(one.card.id)
        if digest is not None:
            return ModelTokenizer(one.card, *_held.get(client.stores.tokenizers, one.card.id, digest))
    raise TokenizerMissing(
        f"No worker has registered the tokenizer of {wanted} yet.",
        f"Start one: embedmill up (or worker) --model {wanted}",
    )


def check_texts(client: Client, texts: Sequence[str]) -> int:
    """Check that texts can be tokenized and are, all together, no longer than one text of a job may be.

    Args:
        client: Whose limits these are.
        texts: What was given.

    Returns:
        Bytes of all of them, in UTF-8.

    Raises:
        InvalidOption: When one of them holds a lone surrogate.
        TooLarge: When they are too long.
    """
    most = client.settings.max_text_bytes
    size = 0
    for text in texts:
        try:
            size += len(text.encode())
        except UnicodeEncodeError as error:
            raise InvalidOption(f"The text has a lone surrogate at character {error.start}.") from error
    if size > most:
        raise TooLarge(f"There are {size:,} bytes of text, more than the limit of {most:,}.", "Give shorter texts.")
    return size


class _Held:
    """Tokenizers that were built, those used last; each is built once, whoever else waits for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._built: OrderedDict[str, tuple[Tokenizer, TokenRules]] = OrderedDict()

    def get(self, store: TokenizerStore, model_id: str, digest: str) -> tuple[Tokenizer, TokenRules]:
        with self._lock:
            found = self._built.pop(digest, None)
            if found is None:
                found = _build(store, model_id)
            self._built[digest] = found
            if len(self._built) > MOST_HELD:
                self._built.popitem(last=False)
            return found


#: By content, so that models of one vocabulary share it, and whoever opens another database may do so too.
_held = _Held()


def _build(store: TokenizerStore, model_id: str) -> tuple[Tokenizer, TokenRules]:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtra("The package tokenizers", "api") from error
    file = store.get(model_id)
    if file is None:
        raise TokenizerMissing("The tokenizer is gone.", "Start a worker of the model again.")
    try:
        tokenizer = Tokenizer.from_str(file.definition)
    except Exception as error:  # a bare one: another version of the package may have written it
        raise TokenizerMissing(
            f"The registered tokenizer cannot be read ({type(error).__name__}).",
            "Let the service and the workers use the same version of the package tokenizers.",
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, file.rules


def _guarded(work: Callable[[], _T]) -> _T:
    """Do what a text may break; a panic in the tokenizer's own language is no Exception."""
    try:
        return work()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise InvalidOption(f"The tokenizer failed on this text ({type(error).__name__}).") from None
