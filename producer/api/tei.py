"""The dialect of Hugging Face's text-embeddings-inference, for the service's own model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from producer import tokenizing
from producer.api.auth import Embedder, Reader
from producer.api.openai.vectors import as_json
from producer.api.service import Service, ServiceDep
from producer.api.teierrors import NoInputs, NotDone, TeiError, failures
from producer.api.teimodels import (
    MAX_INPUTS,
    DecodeRequest,
    EmbedRequest,
    Info,
    ModelType,
    Pooling,
    Token,
    TokenizeRequest,
)
from storage.contract.errors import InvalidOption, ModelUnavailable, TooLarge
from storage.contract.models import ModelCard
from storage.contract.options import JobOptions, check_word
from storage.workers import Served

router = APIRouter(tags=["text-embeddings-inference"])

#: What becomes of a text that is too long when a request does not say; theirs does the same by default.
AUTO_TRUNCATE = True

#: Most ids that are decoded at once.
_MAX_IDS = 1_000_000

_VECTORS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One vector a text, in their order, also for a single text.",
        "model": list[list[float]],
        "headers": {
            "X-Compute-Characters": {"description": "Characters of all texts.", "schema": {"type": "integer"}},
            "X-Compute-Tokens": {"description": "Tokens read of all texts.", "schema": {"type": "integer"}},
            "X-Total-Time": {"description": "Milliseconds from request to answer.", "schema": {"type": "integer"}},
            "X-Embedmill-Truncated": {"description": "How many texts were cut.", "schema": {"type": "integer"}},
        },
    }
}


@router.post(
    "/invocations",
    operation_id="tei_invocations",
    summary="The same as /embed",
    responses=_VECTORS | failures(400, 413, 422, 424),
)
@router.post(
    "/", operation_id="tei_root", summary="The same as /embed", responses=_VECTORS | failures(400, 413, 422, 424)
)
@router.post(
    "/embed", operation_id="tei_embed", summary="Embed texts at once", responses=_VECTORS | failures(400, 413, 422, 424)
)
async def embed(request: Request, asked: EmbedRequest, service: ServiceDep, caller: Embedder) -> Response:
    """Embed a text or several with the service's model; all of them get their vectors, or the answer says why not."""
    began = time.monotonic()
    texts = _listed(asked.inputs)
    _check(texts)
    if asked.truncation_direction is not None:
        await asyncio.to_thread(_check_direction, service, asked.truncation_direction)
    truncate = AUTO_TRUNCATE if asked.truncate is None else asked.truncate
    options = JobOptions(
        normalize=asked.normalize,
        on_long="truncate" if truncate else "error",
        prompt_name=asked.prompt_name,
        dimensions=asked.dimensions,
    )
    called = await service.calls.embed(request, caller, texts, options=options)
    content = await asyncio.to_thread(lambda: f"[{','.join(as_json(row, False) for row in called.matrix)}]")
    headers = {
        "X-Compute-Characters": str(sum(map(len, texts))),
        "X-Compute-Tokens": str(int(called.tokens.sum())),
        "X-Total-Time": str(round((time.monotonic() - began) * 1000)),
        "X-Embedmill-Truncated": str(called.truncated),
    }
    return Response(content, media_type="application/json", headers=headers)


@router.post(
    "/embed_all",
    operation_id="tei_embed_all",
    summary="Not done: vectors of single tokens",
    status_code=424,
    response_model=TeiError,
    responses=failures(424),
)
def embed_all(caller: Embedder) -> JSONResponse:
    """Refuse: states of single tokens leave no worker; one vector a text is all that is kept."""
    raise NotDone(
        "Embedmill keeps one vector a text: the states of single tokens never leave a worker.",
        "Use /embed, or a job with the option `pooling`.",
    )


@router.post(
    "/tokenize",
    operation_id="tei_tokenize",
    summary="Tokenize texts",
    response_model=list[list[Token]],
    responses=failures(400, 413, 422),
)
def tokenize(asked: TokenizeRequest, service: ServiceDep, caller: Embedder) -> JSONResponse:
    """Return the tokens of whole texts; nothing is cut."""
    found = tokenizing.tokenizer_of(service.client)
    prompt = _prompt(found.card, asked.prompt_name)
    texts = [prompt + text for text in _listed(asked.inputs)]
    tokenizing.check_texts(service.client, texts)
    encodings = found.encode(texts, asked.add_special_tokens)
    return JSONResponse([_tokens(text, encoding) for text, encoding in zip(texts, encodings, strict=True)])


@router.post(
    "/decode", operation_id="tei_decode", summary="Turn token ids into texts", responses=failures(400, 413, 422)
)
def decode(asked: DecodeRequest, service: ServiceDep, caller: Embedder) -> list[str]:
    """Return the texts that ids stand for."""
    if not asked.ids:
        raise NoInputs("`ids` is empty.")
    several = [one for one in asked.ids if isinstance(one, list)] or [
        [one for one in asked.ids if isinstance(one, int)]
    ]
    if len(several) > MAX_INPUTS:
        raise TooLarge(f"batch size {len(several)} > maximum allowed batch size {MAX_INPUTS}.")
    if sum(map(len, several)) > _MAX_IDS:
        raise TooLarge(f"There are more than {_MAX_IDS:,} ids.", "Send fewer.")
    return tokenizing.tokenizer_of(service.client).decode(several, asked.skip_special_tokens)


@router.get("/info", operation_id="tei_info", summary="What is served, and its limits", responses=failures())
def info(service: ServiceDep, caller: Reader) -> Info:
    """Tell of the service's own model and of the limits of requests."""
    served = _served(service)
    card = served.card
    return Info(
        model_id=card.name,
        model_sha=card.revision,
        model_dtype=card.precision,
        model_type=ModelType(embedding=Pooling(pooling=card.pooling)),
        max_concurrent_requests=service.settings.max_calls,
        max_input_length=card.max_length,
        max_batch_tokens=MAX_INPUTS * card.max_length,
        max_client_batch_size=MAX_INPUTS,
        auto_truncate=AUTO_TRUNCATE,
        tokenization_workers=served.workers,
        version=version("embedmill"),
    )


@router.get(
    "/health",
    operation_id="tei_health",
    summary="Whether a worker serves the model",
    response_class=Response,
    responses={503: failures()[503]},
)
def health(service: ServiceDep) -> Response:
    """Answer with nothing when the service's own model is served, else with an error."""
    if not _served(service).workers:
        raise ModelUnavailable("No worker serves the model now.", "Start one: embedmill worker")
    return Response()


def _listed(inputs: str | list[str]) -> list[str]:
    texts = [inputs] if isinstance(inputs, str) else inputs
    if not texts:
        raise NoInputs("`inputs` is empty.")
    if len(texts) > MAX_INPUTS:
        raise TooLarge(
            f"batch size {len(texts)} > maximum allowed batch size {MAX_INPUTS}.", "Send fewer, or submit a job."
        )
    return texts


def _check(texts: list[str]) -> None:
    """Refuse what has a status of its own in their dialect; all else is judged where every item is."""
    if any(not text or text.isspace() for text in texts):
        raise NoInputs("`inputs` holds a text that is empty or blank.", "Leave it out.")
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise InvalidOption("`inputs` holds a lone surrogate.") from None


def _served(service: Service) -> Served:
    """Return the service's own model.

    Raises:
        ModelUnavailable: When no worker has ever served it.
    """
    name = service.client.named(None)
    found = service.stores.workers.find(name)
    if not found:
        raise ModelUnavailable(f"No worker has ever served {name}.", "Start one: embedmill worker")
    return found[0]


def _check_direction(service: Service, direction: str) -> None:
    does = "left" if tokenizing.tokenizer_of(service.client).rules.cut_left else "right"
    if direction.lower() != does:
        raise InvalidOption(
            f"The model's tokenizer cuts long texts at the {does}: truncation_direction cannot be {direction}.",
            "Cut the texts yourself before you send them.",
        )


def _prompt(card: ModelCard, name: str | None) -> str:
    check_word("prompt_name", name)
    JobOptions(prompt_name=name).check_against(card)
    chosen = name or card.default_prompt_name
    return card.prompts[chosen] if chosen is not None else ""


def _tokens(text: str, encoding: Any) -> list[dict[str, Any]]:
    """Return the tokens of one encoding, each with the piece of the text that it stands for; see `Token`."""
    columns: Sequence[Any] = (encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets)
    return [
        {"id": id_, "text": piece, "special": True, "start": None, "stop": None}
        if special
        else {"id": id_, "text": text[start:stop], "special": False, "start": start, "stop": stop}
        for id_, piece, special, (start, stop) in zip(*columns, strict=True)
    ]
