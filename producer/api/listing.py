"""What a list of jobs may be narrowed to, as query parameters."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from producer.api.schemas import Labels, ModelName, Name
from storage.contract.errors import InvalidField
from storage.contract.ids import is_id
from storage.contract.states import JobState
from storage.jobfilter import JobFilter

_STATES = "|".join(JobState)
_LABELS = TypeAdapter[dict[str, str]](Labels)

_Moment = Annotated[datetime, Field(examples=["2026-11-29T18:00:00Z"])]


class JobsInQuery(BaseModel):
    """Which jobs are asked for, and how many."""

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
        max_length=8_000,
        description="Only jobs with these labels: a JSON object.",
        examples=['{"team": "search"}'],
        json_schema_extra={"contentMediaType": "application/json"},
    )
    since: _Moment | None = Field(None, description="Only jobs made then or later; UTC, where no zone is named.")
    until: _Moment | None = Field(None, description="Only jobs made before.")

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
            since=_in_utc(self.since),
            until=_in_utc(self.until),
        )


def _labels(told: str) -> dict[str, str]:
    try:
        return _LABELS.validate_json(told)
    except ValidationError:
        remedy = 'Write it like {"team": "search"}.'
        raise InvalidField("labels", "labels is no JSON object of at most 16 short texts.", remedy) from None


def _in_utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
