"""The form that submits a job: texts that were pasted, or a file, with a name, a model and the common options."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from producer.readers import format_of, read
from producer.sources import COMPRESSED_ENDINGS, is_packed
from producer.web.formreading import PageForm
from storage.contract.errors import InvalidFile, InvalidOption
from storage.contract.options import JobOptions, check_word

#: Most characters of a job's name.
_NAME = 200

#: What a file of a form may be. A small Parquet file, or a compressed one, may become larger than this machine; it is
#: unpacked where it lies.
_FORMATS = ("txt", "jsonl", "csv", "tsv")

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
    def of(cls, form: PageForm) -> Submitted:
        """Return what a form holds."""
        given = {name: value for name in FIELDS if (value := form.get(name)).strip()}
        return cls(given, form.file, form.file_name)

    def submission(self) -> dict[str, Any]:
        """Return what `Client.submit_records` takes.

        Raises:
            InvalidOption: When there is nothing to submit, or an option is not allowed.
            InvalidFile: When the file is of a kind that is not taken here.
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
            packed = Path(self.file_name).suffix.lower() in COMPRESSED_ENDINGS or is_packed(self.file)
            if format not in _FORMATS or packed:
                raise InvalidFile(
                    "The file must end in .txt, .jsonl, .csv or .tsv, and be no compressed one.",
                    "Rename or unpack it; `embedmill submit` reads .parquet, .gz and .zst, too.",
                )
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
