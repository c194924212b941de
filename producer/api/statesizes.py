"""How large an answer will be that holds the states of tokens: found out before any work is done for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from producer import tokenizing
from producer.api.answerroom import MOST_NUMBERS
from producer.api.teiinputs import prompt_of
from producer.client import Client
from storage.contract.errors import TooLarge

#: Answers that are smaller than this whatever their texts are need no count of tokens.
_SMALL = MOST_NUMBERS // 16

#: Texts, and letters of them, whose tokens are counted at a time, more or less: where they are too many already, the
#: others are not looked at.
_COUNTED, _LETTERS = 32, 100_000


def numbers_of(client: Client, texts: Sequence[str], prompt_name: str | None) -> int:
    """Return how many numbers the states of texts are, or the most that they can be where those are few.

    Args:
        client: Whose model embeds them.
        texts: What is to be embedded.
        prompt_name: Which of the model's prompts is put before every text.

    Raises:
        TooLarge: When they are more than an answer may hold.
        TokenizerMissing: When they must be counted, and no worker has registered the model's tokenizer.
    """
    found = tokenizing.tokenizer_of(client)
    card = found.card
    most = len(texts) * card.max_length * card.states_width
    if most <= _SMALL:
        return most
    prompt = prompt_of(card, prompt_name)
    tokens = 0
    # One that is too long for a job is refused when it is submitted.
    allowed = [prompt + text for text in texts if len(text) <= client.settings.max_text_bytes]
    for counted in _token_counts(found, allowed):
        tokens += min(counted, card.max_length)
        if tokens * card.states_width > MOST_NUMBERS:
            raise TooLarge(
                f"The states would be more than {MOST_NUMBERS:,} numbers: each token has {card.states_width:,}.",
                f"Send fewer inputs at a time: {MOST_NUMBERS // (card.max_length * card.states_width)} always fit.",
            )
    return tokens * card.states_width


def _token_counts(found: tokenizing.ModelTokenizer, texts: Sequence[str]) -> Iterator[int]:
    some: list[str] = []
    letters = 0
    for place, text in enumerate(texts, 1):
        some.append(text)
        letters += len(text)
        if len(some) == _COUNTED or letters >= _LETTERS or place == len(texts):
            yield from map(len, found.encode(some))
            some, letters = [], 0
