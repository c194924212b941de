"""Bodies of requests that are read as a whole: never more bytes than allowed, JSON without surprises, named errors."""

from __future__ import annotations

import json
from typing import Any, NoReturn, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from storage.contract.errors import TooLarge, UnsupportedMedia

JSON = "application/json"
#: One JSON value a line, by the names that are in use for it.
NDJSON = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")

M = TypeVar("M", bound=BaseModel)


def media_type(request: Request) -> str:
    """Return the media type of a request's body in small letters, without parameters; empty where it names none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def require_media_type(request: Request, *allowed: str) -> str:
    """Return the media type of a body.

    Args:
        request: The request.
        *allowed: What it may be.

    Raises:
        UnsupportedMedia: When it is another.
    """
    found = media_type(request)
    if found not in allowed:
        raise UnsupportedMedia(f"The Content-Type must be {' or '.join(allowed[:2])}.", "Name it in the header.")
    return found


async def read_body(request: Request, most: int) -> bytes:
    """Return a request's body.

    Args:
        request: The request.
        most: Most bytes that are read.

    Raises:
        TooLarge: When it is longer.
    """
    blocks: list[bytes] = []
    size = 0
    async for block in request.stream():
        if block:
            blocks.append(block)
        size += len(block)
        if size > most:
            raise TooLarge(f"The body has more than the {most:,} bytes allowed.", "Send less at a time.")
    # One that was read as a whole before comes in one piece, of which no copy is made then.
    return b"".join(blocks)


def parsed(body: bytes, model: type[M]) -> M:
    """Return what JSON in UTF-8 says.

    Raises:
        RequestValidationError: When it is not JSON, or not of the model's form; without a word of the body.
    """
    value = _json(body)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in found[:100]]) from None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8-sig"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        _refuse(f"not UTF-8 at byte {error.start}")
    except json.JSONDecodeError as error:
        _refuse(f"not JSON at character {error.pos}" if body else "missing")
    except RecursionError:
        _refuse("nested too deeply")
    except ValueError:  # Python refuses to read whole numbers of thousands of digits
        _refuse("not JSON: a number in it is none, or too long")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _refuse(why: str) -> NoReturn:
    error = {"type": "json_invalid", "loc": ("body",), "msg": f"the body is {why}"}
    raise RequestValidationError([error]) from None
