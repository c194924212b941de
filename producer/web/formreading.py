"""Forms of the page on their way in: fields in memory that is counted, a file on the disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast
from urllib.parse import parse_qsl

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from producer.api.bodyroom import FREE, BodyMemory
from producer.api.bodysizes import FORM_FIELDS
from producer.api.multipart import FIELDS, Form, Parts
from producer.api.service import Service
from storage.contract.errors import InvalidOption, StorageFull, TooLarge, UnsupportedMedia

#: The field that is a file.
FILE = "file"

#: How forms may say that they are in UTF-8.
_UTF8 = (b"utf-8", b"utf8")


@dataclass(frozen=True, slots=True)
class PageForm:
    """What a form holds.

    Args:
        fields: Each field's text, by name.
        file: The file that was chosen, or None; it is gone when the form is.
        file_name: What it is called; its ending says what is in it.
    """

    fields: dict[str, str]
    file: BinaryIO | None = None
    file_name: str = ""

    def get(self, name: str) -> str:
        """Return a field's text; empty where there is none of that name."""
        return self.fields.get(name, "")


@asynccontextmanager
async def form_of(request: Request, service: Service, key_id: str = "") -> AsyncIterator[PageForm]:
    """Read a form, of somebody who is known to be allowed to send one; it is there until the end of the block.

    Args:
        request: What sends it.
        service: Says how large it may be, and has the memory for it.
        key_id: The key of who sends it; empty where none is known, or no keys are used.

    Raises:
        UnsupportedMedia: When it is not in UTF-8.
        InvalidOption: When it is no form.
        TooLarge: When it is larger than a form may be.
        Overloaded: When there is no memory for it now.
        StorageFull: When the temporary folder has no room for its file.
    """
    kind, params = parse_options_header(request.headers.get("content-type", ""))
    if params.get(b"charset", _UTF8[0]).lower() not in _UTF8:
        raise UnsupportedMedia("A form must be in UTF-8.", "Name no other charset in its Content-Type.")
    if int(request.headers.get("content-length") or 0) > service.settings.max_part_bytes:
        raise TooLarge(
            f"This is larger than {service.settings.max_part_bytes:,} bytes.", "Submit it with `embedmill submit`."
        )
    memory = service.body_room.body(key_id)
    try:
        with SpooledTemporaryFile(max_size=FREE) as file:
            if kind == b"multipart/form-data":
                found = await _in_parts(request, params.get(b"boundary", b""), memory, cast(BinaryIO, file))
                yield PageForm(found.fields, cast(BinaryIO, file) if found.filename else None, found.filename or "")
            elif kind == b"application/x-www-form-urlencoded":
                yield PageForm(await _in_one(request, memory))
            else:
                yield PageForm({})
    finally:
        memory.leave()


async def _in_parts(request: Request, boundary: bytes, memory: BodyMemory, file: BinaryIO) -> Form:
    """Read a form of several parts; its file is written, and then at its beginning."""
    if not 0 < len(boundary) <= 200:
        raise InvalidOption("This form cannot be read: it does not say what is between its parts.")
    parts = Parts(FILE, FORM_FIELDS)
    parser = MultipartParser(boundary, parts.callbacks())
    counted = 0
    try:
        async for data in request.stream():
            parser.write(data)
            memory.add(parts.size - counted)
            counted = parts.size
            if parts.file:
                await run_in_threadpool(_write, file, bytes(parts.file))
                parts.file.clear()
        parser.finalize()
    except FormParserError:
        raise InvalidOption("This form cannot be read.", "Load the page again and send the form once more.") from None
    if not parts.is_whole:
        raise InvalidOption("This form ends in the middle.", "Send it again.")
    file.seek(0)
    return parts.form


def _write(file: BinaryIO, block: bytes) -> None:
    try:
        file.write(block)
    except OSError as error:
        raise StorageFull(
            "The temporary folder has no room for the file.", "Submit it with `embedmill submit`."
        ) from error


async def _in_one(request: Request, memory: BodyMemory) -> dict[str, str]:
    """Read a form in one piece, which holds no file."""
    body = bytearray()
    async for block in request.stream():
        memory.add(len(block))
        body += block
        if len(body) > FORM_FIELDS:
            raise TooLarge(f"The form has more than {FORM_FIELDS:,} bytes.", "Send much text as a file.")
    text = body.decode("utf-8", "replace")
    try:
        return dict(await run_in_threadpool(parse_qsl, text, True, max_num_fields=FIELDS))
    except ValueError:
        raise InvalidOption(f"The form has more than {FIELDS} fields.") from None
