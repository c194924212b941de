"""The backlog of one model, as one number that an autoscaler reads."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from producer.api.auth import Reader
from producer.api.documented import failures
from producer.api.service import ServiceDep
from storage.contract.options import check_word

router = APIRouter(tags=["workers"])

_NO_NUL: dict[str, Any] = {"pattern": "^[^\\u0000]*$"}

Model = Annotated[
    str | None,
    Query(
        max_length=500, description="Hub name or folder; default: the service's own model.", json_schema_extra=_NO_NUL
    ),
]
Revision = Annotated[
    str | None,
    Query(max_length=100, description="Commit hash, or its beginning; default: any.", json_schema_extra=_NO_NUL),
]
Precision = Annotated[
    Literal["float32", "half", "int8"] | None,
    Query(description="Only what workers of this class of precision may do; default: any."),
]


class BacklogView(BaseModel):
    """What waits for one model or is in hand; all zero where nobody has asked for it."""

    model: str = Field(description="Name of the model.", examples=["sentence-transformers/all-MiniLM-L6-v2"])
    tokens: int = Field(
        description="Tokens without an outcome yet, estimated: of bulk and urgent jobs.", examples=[98304]
    )
    wanted_tokens: int = Field(
        description="The same, and 1 at least where no worker of this model, revision and precision was ever there, by "
        "which they become known, and where a call for it came in the last five minutes, answered, or refused for want "
        "of a worker. What an autoscaler goes by.",
        examples=[98304],
    )
    urgent_tokens: int = Field(description="Those of urgent jobs alone.", examples=[0])
    texts: int = Field(description="Texts without an outcome yet.", examples=[3072])
    chunks: int = Field(description="Pieces of jobs that they are in.", examples=[12])
    oldest_seconds: float = Field(description="Age of the oldest job among them; 0 where there is none.")
    workers: int = Field(description="Live workers that serve it.", examples=[1])


@router.get(
    "/v1/backlog",
    operation_id="get_backlog",
    summary="Show how much waits for a model",
    response_model=BacklogView,
    responses=failures(),
)
def get_backlog(
    service: ServiceDep,
    caller: Reader,
    model: Model = None,
    revision: Revision = None,
    precision: Precision = None,
) -> BacklogView:
    """Return how much waits for a model or is in hand, of all keys together.

    It is made for autoscalers: one flat object, and no error for a model that nobody has asked for. What waits is added
    up for all who ask at once, and so seldom that it takes a twentieth of the time: where that takes a second, the
    answer may be 20 s old, and never more than a minute.
    """
    check_word("model", model)
    check_word("revision", revision)
    name = service.client.named(model)
    found = service.stores.backlogs.of_model(name, revision, precision, service.backlog.get())
    tokens = found.bulk.tokens + found.urgent.tokens
    return BacklogView(
        model=name,
        tokens=tokens,
        wanted_tokens=tokens if found.is_known and not found.is_wanted else max(tokens, 1),
        urgent_tokens=found.urgent.tokens,
        texts=found.bulk.texts + found.urgent.texts,
        chunks=found.bulk.chunks + found.urgent.chunks,
        oldest_seconds=round(found.oldest_seconds, 3),
        workers=found.workers,
    )
