"""`/v1/embeddings`: texts in, vectors out, in one request."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response

from producer.api.auth import Embedder
from producer.api.called import Called
from producer.api.openai.requests import MAX_INPUTS, EmbeddingRequest, parse
from producer.api.openai.schemas import EmbeddingList, errors
from producer.api.openai.vectors import data_of
from producer.api.service import ServiceDep
from storage.contract.options import ON_LONG, PADDINGS, POOLINGS, STORE_DTYPES

router = APIRouter(tags=["OpenAI"])

_TEXTS = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": MAX_INPUTS}


def _optional(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": [kind, "null"], **more}


#: The body as the OpenAPI document shows it; it is read by `parse`, whose messages are a person's.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "EmbeddingRequest",
    "required": ["input"],
    "additionalProperties": False,
    "properties": {
        "input": {"description": "One text, or several.", "anyOf": [{"type": "string", "minLength": 1}, _TEXTS]},
        "model": _optional("string", description="Default: the service's own model."),
        "dimensions": _optional("integer", minimum=1, description="Keep the first so many components."),
        "encoding_format": _optional("string", enum=["float", "base64", None], default="float"),
        "user": _optional("string", description="Tolerated, not used."),
        "revision": _optional("string", description="The model's commit hash, or its beginning."),
        "pooling": _optional("string", enum=[*POOLINGS, None]),
        "normalize": _optional("boolean", default=True, description="Whether vectors are scaled to length 1."),
        "layer": _optional("integer", minimum=-1),
        "max_length": _optional("integer", minimum=3),
        "padding": _optional("string", enum=[*PADDINGS, None]),
        "on_long": _optional("string", enum=[*ON_LONG, None]),
        "prompt": _optional("string", description="Put before every text."),
        "prompt_name": _optional("string", description="One of the model's own prompts instead."),
        "store_dtype": _optional("string", enum=[*STORE_DTYPES, None]),
        "deterministic": _optional("boolean"),
    },
    "example": {"input": ["wheat", "rye"], "encoding_format": "float"},
}

_DONE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The vectors, in the order of the inputs.",
        "headers": {
            "X-Embedmill-Truncated": {"description": "How many texts were cut.", "schema": {"type": "integer"}},
        },
    }
}


# TEI serves OpenAI's dialect at its root too.
@router.post("/embeddings", include_in_schema=False)
@router.post(
    "/v1/embeddings",
    summary="Embed texts at once",
    operation_id="create_embeddings",
    response_model=EmbeddingList,
    responses=_DONE | errors(404, 409, 413, 504),
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": SCHEMA}}}},
)
async def create_embeddings(
    request: Request, body: Annotated[dict[str, Any], Body()], service: ServiceDep, caller: Embedder
) -> Response:
    """Embed a text or up to 2048; all of them get their vectors, or the answer says which do not and why."""
    asked = parse(body)
    called = await service.calls.embed(
        request, caller, asked.texts, model=asked.model, revision=asked.revision, options=asked.options
    )
    model = service.client.named(asked.model)
    content = await asyncio.to_thread(_answer, called, asked, model)
    return Response(content, media_type="application/json", headers={"X-Embedmill-Truncated": str(called.truncated)})


def _answer(called: Called, asked: EmbeddingRequest, model: str) -> bytes:
    tokens = int(called.tokens.sum())
    usage = json.dumps({"prompt_tokens": tokens, "total_tokens": tokens})
    data = data_of(called.matrix, asked.base64)
    return f'{{"object":"list","data":{data},"model":{json.dumps(model)},"usage":{usage}}}'.encode()
