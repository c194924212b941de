"""Which jobs are meant of all that one may see: a plain value, whether storage is asked or a service over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from storage.contract.errors import InvalidField
from storage.contract.options import check_word
from storage.contract.states import JobState


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
        InvalidField: When a state is none, or a time has no time zone.
        InvalidOption: When a word is none that a database can hold.
    """

    states: Sequence[str] | None = None
    model: str | None = None
    name: str | None = None
    labels: Mapping[str, str] | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        states = self.states
        if states is not None and (isinstance(states, str) or not states or not set(states) <= set(JobState)):
            known = ", ".join(JobState)
            raise InvalidField("state", f"state must be some of {known}.", "Name several with commas between.")
        check_word("model", self.model)
        check_word("name", self.name)
        for name, value in (self.labels or {}).items():
            check_word("a label's name", name)
            check_word(f"the label {name}", value)
        for field in ("since", "until"):
            moment = getattr(self, field)
            if moment is not None and moment.tzinfo is None:
                raise InvalidField(field, f"{field} has no time zone.", "Say which, such as UTC.")
