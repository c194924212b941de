"""The way from a text to token ids, made visible."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from producer import tokenizing
from producer.api.auth import Embedder
from producer.api.documented import failures
from producer.api.schemas import Name, Prompt
from producer.api.service import ServiceDep
from storage.contract.options import MIN_MAX_LENGTH

router = APIRouter(tags=["tokens"])


class TokensRequest(BaseModel):
    """A text whose tokens are to be seen."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"text": "Unaffable millers", "padding": "max_length"}]}
    )

    text: Annotated[str, Field(description="Any text; the prompt is put before it, as before those of a job.")]
    model: Annotated[str | None, Field(description="Hub name or folder. Default: the service's.")] = None
    max_length: Annotated[
        int | None,
        Field(
            strict=True, ge=MIN_MAX_LENGTH, description="Most tokens read, special ones included. Default: the model's."
        ),
    ] = None
    padding: Annotated[
        Literal["longest", "max_length"],
        Field(description="longest fills nothing up; max_length does, as the classic BERT call."),
    ] = "longest"
    prompt: Annotated[Prompt | None, Field(description="Put before the text. Default: the model's own.")] = None
    prompt_name: Annotated[Name | None, Field(description="One of the model's own prompts instead.")] = None


class TokensAnswer(BaseModel):
    """One text as the encoder reads it."""

    model: Annotated[str, Field(description="Whose tokenizer it is.")]
    pieces: Annotated[list[str], Field(description="What is read, special tokens and padding included.")]
    ids: Annotated[list[int], Field(description="The ids of the pieces.")]
    mask: Annotated[list[int], Field(description="1 where there is a token, 0 where there is padding.")]
    length: Annotated[int, Field(description="Tokens of the whole text, prompt and special tokens included.")]
    truncated: Annotated[bool, Field(description="Whether the text was cut.")]


@router.post(
    "/v1/tokens",
    operation_id="show_tokens",
    summary="Show what becomes of a text before it is embedded",
    responses=failures(404, 413),
)
def show_tokens(asked: TokensRequest, service: ServiceDep, caller: Embedder) -> TokensAnswer:
    """Return the pieces, ids and mask that the encoder reads of a text with its prompt, and whether it was cut.

    The same as `embedmill tokens` shows, made by the tokenizer that the model's worker registered.
    """
    with service.tokens_room.held(tokenizing.check_texts(service.client, [asked.text])):
        card, tokens = tokenizing.describe(
            service.client,
            asked.text,
            model=asked.model,
            max_length=asked.max_length,
            padding=asked.padding,
            prompt=asked.prompt,
            prompt_name=asked.prompt_name,
        )
    return TokensAnswer(
        model=card.name,
        pieces=tokens.pieces,
        ids=tokens.ids,
        mask=tokens.mask,
        length=tokens.length,
        truncated=tokens.truncated,
    )
