"""text-embeddings-inference's routes that embed: one vector a text, or the states of all its tokens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray

from producer.api.answerroom import MOST_NUMBERS
from producer.api.auth import Embedder
from producer.api.held import Held
from producer.api.openai.vectors import as_json
from producer.api.service import ServiceDep
from producer.api.statesizes import numbers_of
from producer.api.teierrors import failures
from producer.api.teiinputs import inputs_of, on_long
from producer.api.teimodels import EmbedAllRequest, EmbedRequest
from storage.contract.options import NO_POOLING, JobOptions

router = APIRouter(tags=["text-embeddings-inference"])

#: Numbers a second at which an answer that holds room is read at least, some 100 kB, once so many seconds are over: a
#: reader who takes a little now and then would else keep others from it for days.
_SLOWEST, _PATIENCE = 8_000, 120.0

_HEADERS = {
    "X-Compute-Characters": {"description": "Characters of all texts.", "schema": {"type": "integer"}},
    "X-Compute-Tokens": {"description": "Tokens read of all texts.", "schema": {"type": "integer"}},
    "X-Total-Time": {"description": "Milliseconds from request to answer.", "schema": {"type": "integer"}},
    "X-Embedmill-Truncated": {"description": "How many texts were cut.", "schema": {"type": "integer"}},
}
_FAILURES = failures(400, 413, 422, 424, 507)
_VECTORS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One vector a text, in their order, also for a single text.",
        "model": list[list[float]],
        "headers": _HEADERS,
    }
}
_STATES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": f"""For each text a list of the states of its tokens, special ones too, as the last layer leaves
them: before pooling and dense modules, not normalised. At most {MOST_NUMBERS:,} numbers; more are 413.""",
        "model": list[list[list[float]]],
        "headers": _HEADERS,
    }
}


@router.post(
    "/invocations",
    operation_id="tei_invocations",
    summary="The same as /embed",
    responses=_VECTORS | failures(400, 413, 422, 424, 507),
)
@router.post(
    "/", operation_id="tei_root", summary="The same as /embed", responses=_VECTORS | failures(400, 413, 422, 424, 507)
)
@router.post(
    "/embed",
    operation_id="tei_embed",
    summary="Embed texts at once",
    responses=_VECTORS | failures(400, 413, 422, 424, 507),
)
async def embed(request: Request, asked: EmbedRequest, service: ServiceDep, caller: Embedder) -> Response:
    """Embed a text or several with the service's model; all of them get their vectors, or the answer says why not."""
    began = time.monotonic()
    texts = await inputs_of(service, asked)
    options = JobOptions(
        normalize=asked.normalize, on_long=on_long(asked), prompt_name=asked.prompt_name, dimensions=asked.dimensions
    )
    called = await service.calls.embed(request, caller, texts, options=options)
    content = await asyncio.to_thread(lambda: f"[{','.join(as_json(row, False) for row in called.matrix)}]")
    headers = _told(began, texts, int(called.tokens.sum()), called.truncated)
    return Response(content, media_type="application/json", headers=headers)


@router.post(
    "/embed_all",
    operation_id="tei_embed_all",
    summary="The states of all tokens of texts",
    response_class=Response,
    responses=_STATES | _FAILURES,
)
async def embed_all(request: Request, asked: EmbedAllRequest, service: ServiceDep, caller: Embedder) -> Response:
    """Return the states of every token of a text or several, by the service's model; or the answer says why not."""
    began = time.monotonic()
    texts = await inputs_of(service, asked)
    options = JobOptions(pooling=NO_POOLING, on_long=on_long(asked), prompt_name=asked.prompt_name)
    numbers = await asyncio.to_thread(numbers_of, service.client, texts, asked.prompt_name)
    service.states_room.take(numbers)
    try:
        called = await service.calls.states(request, caller, texts, options)
        headers = _told(began, texts, sum(map(len, called.states)), called.truncated)
        seconds = _PATIENCE + numbers / _SLOWEST
        headers["Content-Type"] = "application/json"
        return Held(_as_json(called.states), lambda: service.states_room.leave(numbers), seconds, headers)
    except BaseException:
        service.states_room.leave(numbers)
        raise


def _as_json(states: Sequence[NDArray[np.floating]]) -> Iterator[bytes]:
    """Yield the answer text by text: the whole of it would be several times as large as the states."""
    start = b"["
    for text in states:
        # As the bytes lie in the database: of an order that others may not have, and not aligned.
        exact = np.ascontiguousarray(text, dtype=np.float32)
        yield start + orjson.dumps(exact, option=orjson.OPT_SERIALIZE_NUMPY)
        start = b","
    yield b"]"


def _told(began: float, texts: Sequence[str], tokens: int, truncated: int) -> dict[str, str]:
    return {
        "X-Compute-Characters": str(sum(map(len, texts))),
        "X-Compute-Tokens": str(tokens),
        "X-Total-Time": str(round((time.monotonic() - began) * 1000)),
        "X-Embedmill-Truncated": str(truncated),
    }
