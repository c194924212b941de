"""Which jobs are meant of all that one may see: a plain value, whether storage is asked or a service over HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from storage.contract.errors import InvalidField
from storage.contract.ids import checked_job_id
from storage.contract.labels import check_labels, check_name
from storage.contract.options import check_word, shown
from storage.contract.states import JobState
from storage.jobstatus import JobStatus
from storage.moments import milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """What the jobs have in common; what is None does not count.

    Args:
        states: They are in one of these, of which `accepting` may be one; None: in any but that.
        model: They are for the model of this name.
        name: They are called so, and not otherwise.
        labels: They have all of these labels, and perhaps others.
        since: They were made at this time or later; it has a time zone.
        until: They were made before this time; it has a time zone.

    Raises:
        InvalidOption: When a state is none, a time has no time zone, or a name or label is none that a job can have.
    """

    states: Iterable[str] | None = None
    model: str | None = None
    name: str | None = None
    labels: Mapping[str, str] | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        if self.states is not None:
            object.__setattr__(self, "states", _states(self.states))
        check_word("model", self.model)
        if self.model == "":
            raise InvalidField("model", "model is empty.", "Leave it out for all models.")
        check_name(self.name)
        check_labels(self.labels)
        for field in ("since", "until"):
            moment = getattr(self, field)
            if moment is None:
                continue
            if not isinstance(moment, datetime):
                raise InvalidField(field, f"{field} must be a datetime, not {type(moment).__name__}.")
            if moment.tzinfo is None:
                raise InvalidField(field, f"{field} has no time zone.", "Say which, such as UTC.")

    def passes(self, status: JobStatus) -> bool:
        """Tell whether a job has the name and labels and is of the time; its state may be another by now."""
        made = milliseconds(datetime.fromisoformat(status.created_at))
        return (
            (self.name is None or status.name == self.name)
            and all(status.labels.get(name) == value for name, value in (self.labels or {}).items())
            and (self.since is None or made >= milliseconds(self.since))
            and (self.until is None or made < milliseconds(self.until))
        )


def checked_page(limit: int, before: str | UUID | None) -> str | None:
    """Return the id of the job that a list begins behind, or None.

    Args:
        limit: Most jobs of the list.
        before: The id, or None.

    Raises:
        InvalidOption: When it is no whole number, or less than none.
        UnknownJob: When it is no id.
    """
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise InvalidField("limit", f"limit must be a whole number of at least 0, not {shown(limit)}.")
    return None if before is None else checked_job_id(before)


def _states(given: object) -> tuple[str, ...]:
    """Return the states, each once."""
    try:
        states = () if isinstance(given, str) else tuple(dict.fromkeys(given))  # type: ignore[call-overload]
        if states and set(states) <= set(JobState):
            return states
    except TypeError:
        pass
    raise InvalidField("state", f"state must be some of {', '.join(JobState)}.", "Name several with commas between.")
