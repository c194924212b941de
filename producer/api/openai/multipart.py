"""Forms with one file in them, read while they arrive: a file of any size takes no more memory than a block."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from producer.api.multipart import Form, Parts
from storage.contract.errors import CallerGone, InvalidField, TooLarge
from storage.filewriter import FileWriter

#: Most bytes of all fields that are no file.
_FIELDS = 10_000


async def receive(request: Request, name: str, limit: int, opened: Callable[[], FileWriter]) -> tuple[Form, FileWriter]:
    """Read a form and write the file in it; the writer is then still to be closed, or discarded.

    Args:
        request: Whose body is the form.
        name: The name of the field that is the file.
        limit: Largest file, in bytes.
        opened: Opens the writer; called in a thread.

    Raises:
        InvalidField: When the body is no such form, its fields are too long, or the file is missing or empty.
        TooLarge: When the file is too large.
        CallerGone: When the sender goes away.
    """
    kind, params = parse_options_header(request.headers.get("content-type", ""))
    boundary = params.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary or len(boundary) > 200:
        raise InvalidField(name, "The body must be multipart/form-data.", f"Send the file in the field {name}.")
    parts = Parts(name, _FIELDS)
    parser = MultipartParser(boundary, parts.callbacks())
    writer = await asyncio.to_thread(opened)
    try:
        async for data in request.stream():
            parser.write(data)
            if parts.file:
                if writer.size + len(parts.file) > limit:
                    raise TooLarge(f"The file has more than {limit:,} bytes.", "Split it.")
                await asyncio.to_thread(writer.write, bytes(parts.file))
                parts.file.clear()
        parser.finalize()
        if not parts.is_whole:
            raise InvalidField(name, "The form ends in the middle.", "Send it again.")
        if parts.form.filename is None:
            raise InvalidField(name, f"The form has no file in its field {name}.")
        parts.form.filename = parts.form.filename or "upload"
        return parts.form, writer
    except BaseException as error:
        await asyncio.to_thread(writer.discard)
        if isinstance(error, FormParserError):
            raise InvalidField(name, "The body is no multipart form.", "Send it again.") from None
        if isinstance(error, ClientDisconnect):
            raise CallerGone("Whoever sent went away.") from None
        raise
