"""Forms with one file in them, read while they arrive: a file of any size takes no more memory than a block."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from storage.contract.errors import CallerGone, InvalidField, TooLarge
from storage.filewriter import FileWriter

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

#: Largest field that is no file, in bytes, and most fields of a form.
_FIELD, _FIELDS = 10_000, 20


@dataclass(slots=True)
class Form:
    """What a form holds beside its file.

    Args:
        fields: By name.
        filename: What the file is called; None where there was no file.
    """

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None


async def receive(request: Request, name: str, limit: int, opened: Callable[[], FileWriter]) -> tuple[Form, FileWriter]:
    """Read a form and write the file in it; the writer is then still to be closed, or discarded.

    Args:
        request: Whose body is the form.
        name: The name of the field that is the file.
        limit: Largest file, in bytes.
        opened: Opens the writer; called in a thread.

    Raises:
        InvalidField: When the body is no such form, or the file is missing or empty.
        TooLarge: When the file is too large.
        CallerGone: When the sender goes away.
    """
    kind, params = parse_options_header(request.headers.get("content-type", ""))
    boundary = params.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary or len(boundary) > 200:
        raise InvalidField(name, "The body must be multipart/form-data.", f"Send the file in the field {name}.")
    parts = _Parts(name)
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
        return parts.form, writer
    except BaseException as error:
        await asyncio.to_thread(writer.discard)
        if isinstance(error, FormParserError):
            raise InvalidField(name, "The body is no multipart form.", "Send it again.") from None
        if isinstance(error, ClientDisconnect):
            raise CallerGone("Whoever sent went away.") from None
        raise


class _Parts:
    """What the parser tells, put together: bytes of the file to be written, and other fields."""

    def __init__(self, name: str) -> None:
        self.form = Form()
        self.file = bytearray()
        self.is_whole = False
        self._name = name
        self._header = self._value = b""
        self._disposition = b""
        self._field: str | None = None
        self._content = bytearray()
        self._is_file = False
        self._begun = 0

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_header,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_content,
            "on_part_data": self._add_content,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._header = self._value = self._disposition = b""
        self._field, self._is_file = None, False
        self._content.clear()

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _begin_content(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = self._field == self._name
        self._begun += 1
        # Counted when it begins: one without content is parsed and kept like any other.
        if self._begun > _FIELDS:
            raise InvalidField(self._name, f"The form has more than {_FIELDS} fields.")
        if self._is_file:
            if self.form.filename is not None:
                raise InvalidField(self._name, f"The form has two files in its field {self._name}.")
            self.form.filename = _tidy(options.get(b"filename", b"").decode("utf-8", "replace")) or "upload"

    def _add_content(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.file += data[start:end]
            return
        self._content += data[start:end]
        if len(self._content) > _FIELD:
            raise InvalidField(self._name, "A field of the form is too long.")

    def _end(self) -> None:
        if not self._is_file and self._field:
            self.form.fields[self._field] = self._content.decode("utf-8", "replace")

    def _finish(self) -> None:
        self.is_whole = True


def _tidy(filename: str) -> str:
    """Return a name without folders and what cannot be shown."""
    name = filename.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(letter for letter in name if letter.isprintable())[:255]
