"""What a caller may call a job: a name, and labels that it is found again by."""

from __future__ import annotations

from collections.abc import Mapping

from storage.contract.errors import InvalidField
from storage.contract.options import check_word

#: Most labels of a job.
MOST_LABELS = 16

#: Most letters of a label's name, of its value, and of a job's name.
LONGEST_LABEL, LONGEST_VALUE, LONGEST_NAME = 64, 512, 200


def check_name(name: object) -> None:
    """Check a job's name.

    Args:
        name: The name, or None.

    Raises:
        InvalidOption: When it is no string that a database can hold, empty, or too long.
    """
    check_word("name", name)
    if isinstance(name, str):
        _check_length("name", "name", name, 1, LONGEST_NAME)


def check_labels(labels: object) -> None:
    """Check a job's labels.

    Args:
        labels: Values by names, or None.

    Raises:
        InvalidOption: When they are no such thing, too many, too long, or not what a database can hold.
    """
    if labels is None:
        return
    if not isinstance(labels, Mapping):
        raise InvalidField("labels", "labels must be texts by their names.", 'Write them like {"team": "search"}.')
    if len(labels) > MOST_LABELS:
        raise InvalidField("labels", f"There are {len(labels):,} labels, but a job has {MOST_LABELS} at most.")
    for name, value in labels.items():
        _check_label("a label's name", name, 1, LONGEST_LABEL)
        _check_label("a label", value, 0, LONGEST_VALUE)


def _check_label(what: str, word: object, least: int, most: int) -> None:
    if not isinstance(word, str):
        raise InvalidField("labels", f"{what} must be a string, not {type(word).__name__}.")
    check_word(what, word)
    _check_length("labels", what, word, least, most)


def _check_length(field: str, what: str, word: str, least: int, most: int) -> None:
    if not least <= len(word) <= most:
        raise InvalidField(field, f"{what} has {len(word):,} characters.", f"It has {least} to {most}.")
