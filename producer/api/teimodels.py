"""What text-embeddings-inference's routes take and answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

#: Most inputs of one request: as many as OpenAI's dialect takes.
MAX_INPUTS = 2048

_STRICT = ConfigDict(extra="forbid")


def _no_ids(given: Any) -> Any:
    """Refuse token ids in their own words; whatever else is wrong is told by the types."""
    if isinstance(given, list) and any(type(one) in (int, list) for one in given[:MAX_INPUTS]):
        raise PydanticCustomError(
            "token_ids", "token ids are not taken: they may be another tokenizer's; send texts, or decode them first"
        )
    return given


# What is wrong with the first is told; to find out what is wrong with all would take a thousand times as long.
_Strings = Annotated[list[str], Field(fail_fast=True)]

Texts = Annotated[
    str | _Strings,
    BeforeValidator(_no_ids),
    Field(description=f"A text, or a list of at most {MAX_INPUTS}; none of them empty or blank."),
]
_Flag = Annotated[bool, Field(strict=True)]


class EmbedAllRequest(BaseModel):
    """Texts whose tokens' states are asked for."""

    model_config = _STRICT | ConfigDict(json_schema_extra={"examples": [{"inputs": ["wheat", "rye"]}]})

    inputs: Texts
    truncate: Annotated[
        _Flag | None,
        Field(description="Whether a text that is too long is cut; false: it is refused. Default: `auto_truncate`."),
    ] = None
    truncation_direction: Annotated[
        Literal["Left", "Right", "left", "right"] | None,
        Field(description="Which end of a text is cut; only the one that the model's tokenizer cuts can be asked for."),
    ] = None
    prompt_name: Annotated[str | None, Field(description="One of the model's prompts, put before every text.")] = None


class EmbedRequest(EmbedAllRequest):
    """Texts to embed."""

    normalize: Annotated[_Flag, Field(description="Whether vectors are scaled to length 1.")] = True
    dimensions: Annotated[
        int | None, Field(strict=True, ge=1, description="Keep the first so many components (Matryoshka).")
    ] = None
    encoding_format: Annotated[Literal["float"] | None, Field(description="Vectors are numbers.")] = None


class TokenizeRequest(BaseModel):
    """Texts to tokenize."""

    model_config = _STRICT | ConfigDict(json_schema_extra={"examples": [{"inputs": "Unaffable millers"}]})

    inputs: Annotated[str | _Strings, Field(description=f"A text, or a list of at most {MAX_INPUTS}.")]
    add_special_tokens: Annotated[_Flag, Field(description="Whether those before and after a text are told.")] = True
    prompt_name: Annotated[str | None, Field(description="One of the model's prompts, put before every text.")] = None


class Token(BaseModel):
    """One token of a text."""

    id: int
    text: Annotated[str, Field(description="What stands in the text, or the name of a special token.")]
    special: bool
    start: Annotated[int | None, Field(description="Its first character in the text; null of a special token.")]
    stop: Annotated[int | None, Field(description="The character after its last; null of a special token.")]


_Id = Annotated[int, Field(strict=True, ge=0, le=2**32 - 1)]
_Ids = Annotated[list[_Id], Field(fail_fast=True)]


class DecodeRequest(BaseModel):
    """Token ids to turn into texts."""

    model_config = _STRICT | ConfigDict(json_schema_extra={"examples": [{"ids": [[101, 1996, 102]]}]})

    ids: Annotated[
        _Ids | Annotated[list[_Ids], Field(fail_fast=True)],
        Field(description="The ids of one text, or those of several."),
    ]
    skip_special_tokens: Annotated[_Flag, Field(description="Whether special tokens are left out.")] = True


class Pooling(BaseModel):
    """How an embedding model makes one vector of token states."""

    pooling: str


class ModelType(BaseModel):
    """What kind of model it is: always one that embeds."""

    embedding: Pooling


class Info(BaseModel):
    """What is served, and its limits."""

    model_id: str
    model_sha: Annotated[str | None, Field(description="Commit of a hub model, or hash of a folder's content.")]
    model_dtype: Annotated[str, Field(description="`float32`, `half` (bfloat16 or float16) or `int8`.")]
    model_type: ModelType
    max_concurrent_requests: Annotated[int, Field(description="Calls that may wait at a time; more get 429.")]
    max_input_length: Annotated[int, Field(description="Most tokens read of a text.")]
    max_batch_tokens: Annotated[int, Field(description="Most tokens of one request: all inputs of full length.")]
    max_batch_requests: None = None
    max_client_batch_size: Annotated[int, Field(description="Most inputs of one request.")]
    auto_truncate: Annotated[bool, Field(description="What becomes of a long text when a request does not say.")]
    tokenization_workers: Annotated[int, Field(description="Workers that serve the model now; each tokenizes.")]
    version: Annotated[str, Field(description="Embedmill's version.")]
    sha: None = None
    docker_label: None = None
