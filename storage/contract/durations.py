"""Lengths of time that callers give, in seconds or days: judged here for every way in, whoever keeps or sends them."""

from __future__ import annotations

from numbers import Real

from storage.contract.errors import InvalidField
from storage.contract.options import shown

#: Most seconds that a job, or a key, may be given: ten years.
LONGEST_LIFE = 10 * 366 * 86_400


def checked_number(name: str, given: object, unit: str = "seconds") -> float:
    """Return what a caller gave as a length of time.

    Args:
        name: What it is, for the message.
        given: What was given; a number of NumPy's, too.
        unit: What it is counted in.

    Raises:
        InvalidOption: When it is no number.
    """
    if isinstance(given, Real) and not isinstance(given, bool):
        try:
            number = float(given)
        except OverflowError:
            number = float("inf")
        if number == number:
            # A whole number stays one: what was asked before under an idempotency key is still the same.
            return given if isinstance(given, int) and number != float("inf") else number
    raise InvalidField(
        name, f"{name} must be a number of {unit}, not {shown(given)}.", f"Give {unit}, or leave it out."
    )


def checked_life(given: object) -> float | None:
    """Return the seconds after which something is to end, or None: never.

    Args:
        given: What a caller gave as `expires_in`.

    Raises:
        InvalidOption: When it is no number of seconds, or out of range.
    """
    if given is None:
        return None
    seconds = checked_number("expires_in", given)
    if not 0 < seconds <= LONGEST_LIFE:
        message = f"expires_in is {shown(seconds)}."
        raise InvalidField("expires_in", message, "Give seconds, more than 0 and at most ten years.")
    return seconds
