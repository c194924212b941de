"""What text-embeddings-inference's routes make of the texts that they are given."""

from __future__ import annotations

import asyncio

from producer import tokenizing
from producer.api.service import Service
from producer.api.teierrors import NoInputs
from producer.api.teimodels import MAX_INPUTS, EmbedAllRequest
from storage.contract.errors import InvalidOption, TooLarge
from storage.contract.models import ModelCard
from storage.contract.options import JobOptions, check_word

#: What becomes of a text that is too long when a request does not say; theirs does the same by default.
AUTO_TRUNCATE = True


def listed(inputs: str | list[str]) -> list[str]:
    """Return the texts that were given, one or several.

    Raises:
        NoInputs: When there are none.
        TooLarge: When there are too many.
    """
    texts = [inputs] if isinstance(inputs, str) else inputs
    if not texts:
        raise NoInputs("`inputs` is empty.")
    if len(texts) > MAX_INPUTS:
        raise TooLarge(
            f"batch size {len(texts)} > maximum allowed batch size {MAX_INPUTS}.", "Send fewer, or submit a job."
        )
    return texts


async def inputs_of(service: Service, asked: EmbedAllRequest) -> list[str]:
    """Return the texts of a request, once what has a status of its own in their dialect was refused.

    All else is judged where every item is.

    Args:
        service: Whose model embeds them.
        asked: The request.

    Raises:
        NoInputs: When there are none, or one of them is blank.
        TooLarge: When there are too many.
        InvalidOption: When one holds a lone surrogate, or is to be cut where the tokenizer does not.
    """
    texts = listed(asked.inputs)
    if any(not text or text.isspace() for text in texts):
        raise NoInputs("`inputs` holds a text that is empty or blank.", "Leave it out.")
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise InvalidOption("`inputs` holds a lone surrogate.") from None
    if asked.truncation_direction is not None:
        await asyncio.to_thread(_check_direction, service, asked.truncation_direction)
    return texts


def on_long(asked: EmbedAllRequest) -> str:
    """Return what becomes of a text that is too long, as jobs name it."""
    return "truncate" if (AUTO_TRUNCATE if asked.truncate is None else asked.truncate) else "error"


def prompt_of(card: ModelCard, name: str | None) -> str:
    """Return what is put before every text.

    Args:
        card: The model.
        name: Which of its prompts was asked for, or None.

    Raises:
        InvalidOption: When it has no such prompt.
    """
    check_word("prompt_name", name)
    options = JobOptions(prompt_name=name)
    options.check_against(card)
    return options.prompt_for(card)


def _check_direction(service: Service, direction: str) -> None:
    does = "left" if tokenizing.tokenizer_of(service.client).rules.cut_left else "right"
    if direction.lower() != does:
        raise InvalidOption(
            f"The model's tokenizer cuts long texts at the {does}: truncation_direction cannot be {direction}.",
            "Cut the texts yourself before you send them.",
        )
