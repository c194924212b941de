"""The form that submits a job: texts that were pasted, or a file, with a name, a model and the common options."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from producer.api.service import Service
from producer.readers import format_of, read
from storage.contract.errors import InvalidFile, InvalidOption, TooLarge
from storage.contract.options import JobOptions, check_word

#: Most characters of a job's name.
_NAME = 200

_CHOICES = ("pooling", "on_long", "store_dtype", "prompt_name", "prompt")
_NUMBERS = ("max_length", "dimensions")
_DAYS = ("keep_days", "keep_texts_days")
_NORMALIZE = {"yes": True, "no": False}

#: Fields that are shown again when a form is refused.
FIELDS = (
    "name",
    "model",
    "texts",
    "text_field",
    "id_field",
    "priority",
    "on_invalid",
    "normalize",
    *_CHOICES,
    *_NUMBERS,
    *_DAYS,
)


@asynccontextmanager
async def form_of(request: Request, service: Service) -> AsyncIterator[FormData]:
    """Read a form; files in it lie on the disk until the end of the block.

    Raises:
        InvalidOption: When it is no form.
        TooLarge: When it is larger than a body may be.
    """
    most = service.settings.max_body_bytes
    if int(request.headers.get("content-length") or 0) > service.settings.max_part_bytes:
        raise TooLarge(
            f"This is larger than {service.settings.max_part_bytes:,} bytes.", "Submit it with `embedmill submit`."
        )
    try:
        form = await request.form(max_files=1, max_fields=100, max_part_size=most)
    except HTTPException as error:
        raise InvalidOption(f"This form cannot be read: {error.detail}.", f"A field takes {most:,} bytes.") from error
    try:
        yield form
    finally:
        await form.close()


@dataclass(frozen=True, slots=True)
class Submitted:
    """What was filled in.

    Args:
        given: Each field's text; what was left empty is missing.
        file: The file that was chosen, or None.
        file_name: What it is called; its ending says what is in it.
    """

    given: dict[str, str] = field(default_factory=dict)
    file: BinaryIO | None = None
    file_name: str = ""

    @classmethod
    def of(cls, form: FormData) -> Submitted:
        """Return what a form holds."""
        given = {name: value for name in FIELDS if isinstance(value := form.get(name), str) and value.strip()}
        file = form.get("file")
        if isinstance(file, UploadFile) and file.filename:
            return cls(given, file.file, file.filename)
        return cls(given)

    def submission(self) -> dict[str, Any]:
        """Return what `Client.submit_records` takes.

        Raises:
            InvalidOption: When there is nothing to submit, or an option is not allowed.
            InvalidFile: When the file is of an unknown kind.
        """
        id_field = self.given.get("id_field") if self.file is not None else None
        return {
            "records": self._records(id_field),
            "with_ids": id_field is not None,
            "model": self.given.get("model"),
            "name": self._name(),
            "priority": self.given.get("priority", "bulk"),
            "on_invalid": self.given.get("on_invalid", "refuse"),
            **{name: _days(name, self.given[name]) for name in _DAYS if name in self.given},
            "options": self._options(),
        }

    def _records(self, id_field: str | None) -> Any:
        pasted = self.given.get("texts", "").strip("\r\n")
        if self.file is not None and pasted:
            raise InvalidOption("There are pasted texts and a file.", "Submit one of them at a time.")
        if self.file is not None:
            format = format_of(self.file_name)
            if format is None:
                raise InvalidFile("The file's ending is none of .txt, .jsonl, .csv, .tsv and .parquet.", "Rename it.")
            return read(self.file, format=format, text_field=self.given.get("text_field"), id_field=id_field)
        if not pasted:
            raise InvalidOption("There is no text to embed.", "Paste some, one on each line, or choose a file.")
        return read(io.BytesIO(pasted.encode(errors="replace")), format="txt")

    def _name(self) -> str | None:
        name = self.given.get("name")
        check_word("name", name)
        if name is not None and len(name) > _NAME:
            raise InvalidOption(f"A name has at most {_NAME} characters.")
        return name

    def _options(self) -> JobOptions:
        options: dict[str, Any] = {name: self.given[name] for name in _CHOICES if name in self.given}
        for name in _NUMBERS:
            if name in self.given:
                options[name] = _whole(name, self.given[name])
        if self.given.get("normalize") in _NORMALIZE:
            options["normalize"] = _NORMALIZE[self.given["normalize"]]
        return JobOptions.from_dict(options)


def _days(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidOption(f"{name} must be a number of days.") from None


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidOption(f"{name} must be a whole number.") from None
