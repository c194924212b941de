"""What a list of jobs may be narrowed to, as query parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from producer.api.schemas import Labels, ModelName, Name
from storage.contract.errors import InvalidField, InvalidOption
from storage.contract.ids import is_id
from storage.contract.states import JobState
from storage.jobfilter import JobFilter
from storage.moments import moment

_STATES = "|".join(JobState)
_LABELS = TypeAdapter[dict[str, str]](Labels)

#: As `moment` reads it.
_When = Annotated[
    str,
    Field(
        max_length=40,
        examples=["2026-11-29T18:00:00Z"],
        json_schema_extra={
            "pattern": "^([0-9]{1,4}[smhdw]|2[0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
            "(T([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\\.[0-9]{3})?)?(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9])?)?)$"
        },
    ),
]


class JobsInQuery(BaseModel):
    """Which jobs are asked for, and how many."""

    # A filter with a slip of the pen would else let all jobs pass.
    model_config = ConfigDict(extra="forbid")
    limit: int = Field(20, ge=1, le=100, description="At most so many.")
    before: str | None = Field(
        None,
        description="Only jobs made before the one of this id.",
        json_schema_extra={"pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"},
    )
    state: str | None = Field(
        None,
        max_length=200,
        description="Only these states.",
        json_schema_extra={"pattern": f"^({_STATES})(,({_STATES}))*$"},
    )
    model: ModelName | None = Field(None, description="Only jobs for this model.")
    name: Name | None = Field(None, description="Only jobs of this name.")
    labels: str | None = Field(
        None,
        max_length=20_000,
        description="Only jobs with these labels: a JSON object.",
        examples=['{"team": "search"}'],
        json_schema_extra={"contentMediaType": "application/json"},
    )
    since: _When | None = Field(
        None, description="Only jobs made then or later: a time, in UTC where it names no zone, or how long ago: `12h`."
    )
    until: _When | None = Field(None, description="Only jobs made before; as `since`.")

    def filter(self, named: Callable[[str | None], str]) -> JobFilter:
        """Return what the jobs must have in common.

        Args:
            named: Returns a model's whole name.

        Raises:
            InvalidField: When `before`, `state` or `labels` are none.
        """
        if self.before is not None and not is_id(self.before):
            raise InvalidField("before", "before is no job's id.", "Send the `next` of the page before.")
        return JobFilter(
            states=None if self.state is None else self.state.split(","),
            model=self.model and named(self.model),
            name=self.name,
            labels=None if self.labels is None else _labels(self.labels),
            since=_moment("since", self.since),
            until=_moment("until", self.until),
        )


def said_once(request: Request) -> None:
    """Refuse a query that says something twice: of two values for one filter, one would be passed over in silence.

    Raises:
        InvalidField: When it does.
    """
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        if count > 1:
            remedy = "Say it once: several labels go in one JSON object, several states have commas between them."
            raise InvalidField(name, f"{name} stands in the query {count} times.", remedy)


def _labels(told: str) -> dict[str, str]:
    try:
        return _LABELS.validate_json(told)
    except ValidationError:
        remedy = 'Write it like {"team": "search"}.'
        raise InvalidField("labels", "labels is no JSON object of at most 16 short texts.", remedy) from None


def _moment(field: str, told: str | None) -> datetime | None:
    if told is None:
        return None
    try:
        return moment(told, datetime.now(UTC))
    except InvalidOption as error:
        raise InvalidField(field, f"{field}: {error.message}", error.remedy) from None
