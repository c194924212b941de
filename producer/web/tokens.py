"""The token view: a text, its pieces and ids, what is cut, and the vector that comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from producer import tokenizing
from producer.api.errors import status_of
from producer.api.service import Service, ServiceDep
from producer.api.workers import overview
from producer.web.pictures import Cell, cells
from producer.web.rendering import page
from producer.web.routes import PageRoute
from producer.web.visitors import VisitorDep
from storage.contract.errors import EmbedmillError, InvalidOption, TooLarge
from storage.contract.models import ModelCard
from storage.contract.options import JobOptions
from storage.contract.tokens import Tokens

router = APIRouter(include_in_schema=False, route_class=PageRoute)

#: Longest text that is drawn, in characters: it travels in the address, so that a view can be linked to.
LONGEST = 4_000

#: Numbers of the vector that are written out.
_NUMBERS = 8

#: Pieces of padding that are drawn; a line of two hundred says nothing more.
_PADDING = 12

_SPECIAL = ("[CLS]", "[SEP]", "<s>", "</s>", "<bos>", "<eos>", "<|endoftext|>")


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of the picture.

    Args:
        text: What it stands for.
        id: Its id, or None where it is cut.
        kind: `special`, `word`, `part` (of a word that began before), `padding` or `cut`.
    """

    text: str
    id: int | None
    kind: str


@dataclass(frozen=True, slots=True)
class View:
    """What the page draws of one text.

    Args:
        card: The model.
        tokens: The text as the encoder reads it.
        pieces: In order, with what is cut at its place.
        hidden: Pieces of padding that are not drawn.
    """

    card: ModelCard
    tokens: Tokens
    pieces: list[Piece]
    hidden: int


@router.get("/tokens")
async def show(request: Request, service: ServiceDep, visitor: VisitorDep) -> Response:
    """Show the form and, when there is a text, what becomes of it."""
    visitor.caller.require("embed")
    given = {name: request.query_params.get(name, "") for name in ("text", "model", "max_length", "padding")}
    values: dict[str, Any] = {"view": None, "cells": [], "numbers": [], "width": 0, "error": None, "no_vector": None}
    if given["text"]:
        try:
            view = values["view"] = await run_in_threadpool(_view, service, given)
        except EmbedmillError as error:
            values["error"] = error
        else:
            try:
                values |= await _vector(request, service, visitor.caller, view, given)
            except EmbedmillError as error:
                # The pieces are worth seeing all the same.
                values["no_vector"] = error
    values |= {"given": given, "default_model": service.settings.model, "longest": LONGEST}
    values["overview"] = await run_in_threadpool(overview, service)
    code = status_of(values["error"]) if values["error"] else 200
    return page(request, "tokens", visitor=visitor, code=code, **values)


def _view(service: Service, given: dict[str, str]) -> View:
    if len(given["text"]) > LONGEST:
        raise TooLarge(f"The page draws texts of at most {LONGEST:,} characters.", "POST /v1/tokens takes longer ones.")
    if given["padding"] not in ("", "longest", "max_length"):
        raise InvalidOption("padding must be longest or max_length.")
    card, tokens = tokenizing.describe(
        service.client,
        given["text"],
        model=given["model"] or None,
        max_length=_most(given),
        padding=given["padding"] or "longest",
    )
    pieces, padding = _pieces(tokens)
    return View(card, tokens, pieces + padding[:_PADDING], max(0, len(padding) - _PADDING))


def _pieces(tokens: Tokens) -> tuple[list[Piece], list[Piece]]:
    """Return the pieces with what is cut where it stood, before the closing token; and those of the padding."""
    triples = list(zip(tokens.pieces, tokens.ids, tokens.mask, strict=True))
    read = [Piece(text, id, _kind(text)) for text, id, mask in triples if mask]
    padding = [Piece(text, id, "padding") for text, id, mask in triples if not mask]
    at = len(read) - (1 if read and read[-1].kind == "special" else 0)
    cut = [Piece(text, None, "cut") for text in tokens.cut]
    return read[:at] + cut + read[at:], padding


def _kind(text: str) -> str:
    if text in _SPECIAL:
        return "special"
    return "part" if text.startswith("##") else "word"


def _most(given: dict[str, str]) -> int | None:
    if not given["max_length"]:
        return None
    try:
        return int(given["max_length"])
    except ValueError:
        raise InvalidOption("The most tokens are a whole number.") from None


async def _vector(request: Request, service: Service, caller: Any, view: View, given: dict[str, str]) -> dict[str, Any]:
    options = JobOptions(max_length=_most(given), padding=given["padding"] or "longest")
    called = await service.calls.embed(request, caller, [given["text"]], model=view.card.name, options=options)
    vector = [float(value) for value in called.matrix[0]]
    drawn: list[Cell] = cells(vector)
    return {"cells": drawn, "numbers": vector[:_NUMBERS], "width": len(vector)}
