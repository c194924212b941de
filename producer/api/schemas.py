"""What our own routes take, typed; bodies are strict, queries are text. What they answer stands in `told.py`."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from storage.contract.durations import LONGEST_LIFE
from storage.contract.errors import InvalidOption
from storage.contract.keeping import MOST_DAYS
from storage.contract.labels import LONGEST_LABEL, LONGEST_NAME, LONGEST_VALUE, MOST_LABELS
from storage.contract.options import JobOptions, check_word


def _word(value: str) -> str:
    try:
        check_word("it", value)
    except InvalidOption as error:
        raise ValueError(error.message) from None
    return value


def _few(labels: object) -> object:
    if isinstance(labels, dict) and len(labels) > MOST_LABELS:
        raise ValueError(f"There are more than {MOST_LABELS} labels")
    return labels


_Kept = AfterValidator(_word)
_NO_NUL: dict[str, Any] = {"pattern": "^[^\\u0000]*$"}
#: As the document says that a word holds no NUL.
NO_NUL = Field(json_schema_extra=_NO_NUL)
#: As it tells of words by name: all of them. Pydantic would tell of the values of those names alone that hold no NUL.
WORDS_BY_NAME = WithJsonSchema(
    {
        "type": "object",
        "maxProperties": MOST_LABELS,
        "propertyNames": {"minLength": 1, "maxLength": LONGEST_LABEL} | _NO_NUL,
        "additionalProperties": {"type": "string", "maxLength": LONGEST_VALUE} | _NO_NUL,
    }
)
Name = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_NAME), _Kept, NO_NUL]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=500), _Kept, NO_NUL]
Url = Annotated[str, StringConstraints(min_length=1, max_length=2000), _Kept, NO_NUL]
Prompt = Annotated[str, StringConstraints(max_length=100_000), _Kept]
LabelName = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_LABEL), _Kept, NO_NUL]
LabelValue = Annotated[str, StringConstraints(max_length=LONGEST_VALUE), _Kept, NO_NUL]
#: Counted first: what is wrong with each of very many would take long to tell.
Labels = Annotated[dict[LabelName, LabelValue], BeforeValidator(_few), WORDS_BY_NAME]

#: Days that something is kept.
Days = Annotated[float, Field(ge=0, le=MOST_DAYS, allow_inf_nan=False)]


class Webhook(BaseModel):
    """Where the job's end is told to."""

    model_config = ConfigDict(strict=True, extra="forbid")
    url: Url = Field(examples=["https://example.org/hooks/embedded"])


class Asked(BaseModel):
    """What may be asked of a job beside its texts; each may be left out."""

    model_config = ConfigDict(extra="forbid")
    model: ModelName | None = Field(None, description="Hub name or folder. Default: the service's model.")
    revision: Name | None = Field(None, description="Commit hash of the model, or its beginning.")
    on_invalid: Literal["refuse", "keep"] = Field(
        "refuse", description="`refuse` accepts nothing if an item is invalid; `keep` makes it that item's error."
    )
    priority: Literal["bulk", "urgent"] = Field("bulk", description="`urgent` for a few texts somebody waits for.")
    expires_in: float | None = Field(
        None, gt=0, le=LONGEST_LIFE, allow_inf_nan=False, description="Seconds after which the job ends."
    )
    keep_days: Days | None = Field(
        None, description="Days after its end that the job is kept. Default: as the key, else the service says."
    )
    keep_texts_days: Days | None = Field(
        None, description="The same for its texts, which `retry` needs; 0: they go at the end."
    )
    name: Name | None = Field(None, description="What a person calls the job.")
    pooling: Literal["mean", "cls", "max", "last"] | None = Field(None, description="Default: the model's own.")
    normalize: bool | None = Field(None, description="Scale vectors to length 1. Default: the model's own.")
    layer: int = Field(-1, ge=-1, le=10_000, description="-1: the last layer; 0: the embedding layer's output.")
    max_length: int | None = Field(None, ge=3, le=10_000_000, description="Most tokens of a text.")
    padding: Literal["longest", "max_length"] = "longest"
    on_long: Literal["truncate", "error"] = Field("truncate", description="What becomes of a text that is too long.")
    prompt: Prompt | None = Field(None, description="Put before every text.")
    prompt_name: Name | None = Field(None, description="One of the model's own prompts instead.")
    dimensions: int | None = Field(None, ge=1, le=1_000_000, description="Keep the first so many components.")
    store_dtype: Literal["float32", "float16"] = Field("float32", description="What is kept.")
    deterministic: bool = Field(False, description="Batches follow from the chunk alone: the same bits each time.")

    def options(self) -> JobOptions:
        """Return the job's options.

        Raises:
            InvalidOption: When two of them do not go together.
        """
        return JobOptions(**{name: getattr(self, name) for name in JobOptions.__dataclass_fields__})


class FieldsInQuery(BaseModel):
    """Which fields of a line hold what."""

    model_config = ConfigDict(extra="forbid")
    text_field: Name = Field("text", description="Field of a line that holds its text.")
    id_field: Name | None = Field(
        None, description="Field of a line that holds its id. Default: `id`, when the first line has one."
    )


class AskedInQuery(Asked, FieldsInQuery):
    """What may be asked as query parameters, for bodies that are nothing but texts."""

    # A whole request line has 64 kB; what is longer stands in a body.
    prompt: Annotated[str, StringConstraints(max_length=5_000), _Kept] | None = Field(
        None, description="Put before every text; a longer one must stand in a body."
    )
    labels: str | None = Field(
        None,
        max_length=8_000,
        description="A JSON object of at most 16 texts.",
        examples=['{"team": "search"}'],
        json_schema_extra={"contentMediaType": "application/json"},
    )
    webhook: Url | None = Field(None, description="URL that the job's end is told to.")

    def given(self) -> dict[str, Any]:
        """Return what was given, as a JSON body would have it.

        Raises:
            InvalidOption: When `labels` is no JSON.
        """
        given = self.model_dump(exclude_unset=True, exclude={"text_field", "id_field"})
        if self.labels is not None:
            try:
                given["labels"] = json.loads(self.labels)
            except (ValueError, RecursionError):
                raise InvalidOption("labels is not JSON.", 'Write it like {"team": "search"}.') from None
        if self.webhook is not None:
            given["webhook"] = {"url": self.webhook}
        return given


class ItemIn(BaseModel):
    """One text with its id, or why there is none."""

    model_config = ConfigDict(extra="forbid")
    text: Any = Field(None, description="A string; anything else is an invalid item.")
    id: Any = Field(None, description="A string of 1 to 512 characters, only once in the job; or a whole number.")
    problem: Any = Field(
        None, description="In place of a text: why the item is invalid, where you judged it yourself; a string."
    )


class JobIn(Asked):
    """A job to be: `texts`, or `items`, or `parts`."""

    model_config = ConfigDict(strict=True, extra="forbid")
    texts: list[Any] | None = Field(
        None, description="Strings; anything else is an invalid item.", examples=[["The mill grinds.", "Rye."]]
    )
    items: Annotated[list[ItemIn], Field(fail_fast=True)] | None = Field(
        None, description="Texts with ids; all have one, or none has."
    )
    parts: Literal[True] | None = Field(None, description="The texts come in parts; the job is then sealed.")
    labels: Labels | None = Field(None, description="Words of your own.", examples=[{"team": "search"}])
    webhook: Webhook | None = None


class SealIn(BaseModel):
    """What should be there, which is checked."""

    model_config = ConfigDict(strict=True, extra="forbid")
    parts: int | None = Field(None, ge=0)
    items: int | None = Field(None, ge=0)
