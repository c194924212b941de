"""How long an ended job is kept, and its texts: said when the job is submitted, and held to from then on."""

from __future__ import annotations

from dataclasses import dataclass

from storage.contract.durations import checked_number
from storage.contract.errors import InvalidOption

#: Milliseconds of a day.
DAY = 86_400_000

#: Most days that can be said: a hundred years.
MOST_DAYS = 36_500


@dataclass(frozen=True, slots=True)
class Keeping:
    """For how many days after its end a job stays; None is for ever.

    Args:
        days: The job, its vectors and its errors.
        texts_days: Its texts alone; None: as long as the job.

    Raises:
        InvalidOption: When it is no number of days.
    """

    days: float | None = None
    texts_days: float | None = None

    def __post_init__(self) -> None:
        for name, days in (("keep_days", self.days), ("keep_texts_days", self.texts_days)):
            if days is None:
                continue
            object.__setattr__(self, name.removeprefix("keep_"), checked_number(name, days, "days"))
            if not 0 <= days <= MOST_DAYS:
                raise InvalidOption(f"{name} is out of range.", f"Give days, from 0 to {MOST_DAYS:,}.")

    @classmethod
    def of_row(cls, keep_for: int | None, keep_texts_for: int | None) -> Keeping:
        """Return what two columns say in milliseconds."""
        return cls(_days(keep_for), _days(keep_texts_for))

    def to_row(self) -> dict[str, int | None]:
        """Return the two columns, in milliseconds."""
        return {"keep_for": _milliseconds(self.days), "keep_texts_for": _milliseconds(self.texts_days)}

    def asked(self, days: float | None, texts_days: float | None, most: Keeping) -> Keeping:
        """Return what holds of a job for which something was asked, or nothing.

        Args:
            days: What was asked for the job; None: nothing.
            texts_days: The same for its texts.
            most: What its owner's key allows, which is also what holds where nothing was asked.

        Raises:
            InvalidOption: When more was asked than the key allows.
        """
        asked = Keeping(days, texts_days)
        for name, wanted, allowed in (
            ("keep_days", asked.days, most.days),
            ("keep_texts_days", asked.texts_days, most.texts_days),
        ):
            if wanted is not None and allowed is not None and wanted > allowed:
                raise InvalidOption(
                    f"{name} is {wanted:g}, and this API key's are kept for at most {allowed:g} days.",
                    "Ask for less, or leave it out.",
                )
        return Keeping(
            _first(asked.days, most.days, self.days),
            _first(asked.texts_days, most.texts_days, self.texts_days),
        )


#: Nothing goes before somebody deletes it.
FOR_EVER = Keeping()


def _first(*days: float | None) -> float | None:
    return next((one for one in days if one is not None), None)


def _days(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / DAY


def _milliseconds(days: float | None) -> int | None:
    return None if days is None else round(days * DAY)
