"""A form with at most one file in it, put together from what its parser tells: fields in memory, the file passed on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.multipart import parse_options_header

from storage.contract.errors import InvalidField

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

#: Most fields of a form, and longest header of one, in bytes.
FIELDS, _HEADER = 30, 10_000


@dataclass(slots=True)
class Form:
    """What a form holds beside its file.

    Args:
        fields: By name.
        filename: What the file is called, empty where nothing is said; None where there was no file.
    """

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None


class Parts:
    """What the parser tells, put together: bytes of the file to be written, and other fields.

    Whatever charset a form claims, its fields are read as UTF-8: some codecs take hours over a megabyte.

    Args:
        name: The name of the field that is the file.
        most: Most bytes of all other fields together.
    """

    def __init__(self, name: str, most: int) -> None:
        self.form = Form()
        self.file = bytearray()
        self.is_whole = False
        #: Bytes of all fields that are no file.
        self.size = 0
        self._name = name
        self._most = most
        self._header = self._value = b""
        self._disposition = b""
        self._field: str | None = None
        self._content = bytearray()
        self._is_file = False
        self._begun = 0

    def callbacks(self) -> MultipartCallbacks:
        """Return what the parser calls; it raises InvalidField where the form may not go on."""
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
        self._header = self._longer(self._header, data[start:end])

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value = self._longer(self._value, data[start:end])

    def _longer(self, header: bytes, more: bytes) -> bytes:
        if len(header) + len(more) > _HEADER:
            raise InvalidField(self._name, "A header in the form is too long.")
        return header + more

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
        if self._begun > FIELDS:
            raise InvalidField(self._name, f"The form has more than {FIELDS} fields.")
        if self._is_file:
            if self.form.filename is not None:
                raise InvalidField(self._name, f"The form has two files in its field {self._name}.")
            self.form.filename = _tidy(options.get(b"filename", b"").decode("utf-8", "replace"))

    def _add_content(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.file += data[start:end]
            return
        self.size += end - start
        if self.size > self._most:
            why = f"The fields of the form are too long: they have more than {self._most:,} bytes."
            raise InvalidField(self._name, why, "Send much text as a file.")
        self._content += data[start:end]

    def _end(self) -> None:
        if not self._is_file and self._field:
            self.form.fields[self._field] = self._content.decode("utf-8", "replace")

    def _finish(self) -> None:
        self.is_whole = True


def _tidy(filename: str) -> str:
    """Return a name without folders and what cannot be shown."""
    name = filename.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(letter for letter in name if letter.isprintable())[:255]
