"""The dialect of Hugging Face's text-embeddings-inference, but for what embeds: that is in `teiembed.py`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from producer import tokenizing
from producer.api.auth import Embedder, Reader
from producer.api.service import Service, ServiceDep
from producer.api.teierrors import NoInputs, failures
from producer.api.teiinputs import AUTO_TRUNCATE, listed, prompt_of
from producer.api.teimodels import (
    MAX_INPUTS,
    DecodeRequest,
    Info,
    ModelType,
    Pooling,
    Token,
    TokenizeRequest,
)
from storage.contract.errors import ModelUnavailable, TooLarge
from storage.workers import Served

router = APIRouter(tags=["text-embeddings-inference"])

#: Most ids that are decoded at once, and most tokens of an answer, each of which takes as much as many ids.
_MAX_IDS, _MAX_TOKENS = 1_000_000, 250_000


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
    prompt = prompt_of(found.card, asked.prompt_name)
    texts = [prompt + text for text in listed(asked.inputs)]
    with service.tokens_room.held(tokenizing.check_texts(service.client, texts)):
        encodings = found.encode(texts, asked.add_special_tokens)
        tokens = sum(map(len, encodings))
        if tokens > _MAX_TOKENS:
            raise TooLarge(f"The texts have {tokens:,} tokens, more than {_MAX_TOKENS:,}.", "Send less at a time.")
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


# SageMaker's name for it, beside `/invocations`.
@router.get("/ping", include_in_schema=False)
@router.get(
    "/health",
    operation_id="tei_health",
    summary="Whether a worker serves the model",
    response_class=Response,
    responses={status: told for status, told in failures(507).items() if status in (503, 507)},
)
def health(service: ServiceDep) -> Response:
    """Answer with nothing when the service's own model is served, else with an error."""
    if not _served(service).workers:
        raise ModelUnavailable("No worker serves the model now.", "Start one: embedmill worker")
    service.stores.files.check_room()
    return Response()


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


def _tokens(text: str, encoding: Any) -> list[dict[str, Any]]:
    """Return the tokens of one encoding, each with the piece of the text that it stands for; see `Token`."""
    columns: Sequence[Any] = (encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets)
    return [
        {"id": id_, "text": piece, "special": True, "start": None, "stop": None}
        if special
        else {"id": id_, "text": text[start:stop], "special": False, "start": start, "stop": stop}
        for id_, piece, special, (start, stop) in zip(*columns, strict=True)
    ]
