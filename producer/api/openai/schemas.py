"""What OpenAI's dialect says and hears, as types; the `openai` package reads the same."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class ErrorDetail(BaseModel):
    """What went wrong, and what to do about it."""

    message: str
    type: str
    param: str | None
    code: str | None
    remedy: str | None = None


class ErrorBody(BaseModel):
    """The form of every error."""

    error: ErrorDetail


_MEANINGS = {
    400: "The request cannot be done as it was asked.",
    401: "The API key is missing, unknown, revoked or expired.",
    403: "The API key lacks the scope.",
    404: "There is nothing of that id or name.",
    409: "This does not fit the state of things.",
    413: "Larger than is allowed.",
    429: "No room just now; `Retry-After` says when to try again.",
    503: "Something is away; `Retry-After` says when to try again.",
    504: "It was not done in time.",
    507: "The disk is full.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return how a route documents its errors.

    Args:
        *statuses: Those beside 400, 401, 403, 429, 503 and 507, which every route may answer.
    """
    told = sorted({400, 401, 403, 429, 503, 507, *statuses})
    return {status: {"model": ErrorBody, "description": _MEANINGS[status]} for status in told}


class Usage(BaseModel):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class Embedding(BaseModel):
    """One vector: numbers, or little-endian float32 in base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingList(BaseModel):
    """The vectors of a request, in the order of its inputs."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class ModelObject(BaseModel):
    """One model, with what is known of it beside OpenAI's fields."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    dimensions: int = Field(description="Components of a vector.")
    max_length: int = Field(description="Most tokens of one text.")
    workers: int = Field(description="Workers that serve it now.")


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[ModelObject]
