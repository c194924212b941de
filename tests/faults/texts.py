"""The texts of the fault suite: each a pure function of a tag and a position, so that nobody has to keep them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

#: In every text; found anywhere outside the database, it tells of a leak.
CANARY = "kanarienvogel"

_FILLING = "ein tauber müller mahlt mehl und murmelt "


def text_of(tag: str, position: int, length: int = 0, marker: str | None = None) -> str:
    """Return one text.

    Args:
        tag: Names the submission; has no space.
        position: Place in the job.
        length: At least so many characters.
        marker: Word that makes the encoder misbehave on it, such as `!raise`.
    """
    text = f"{tag} {position} {CANARY}"
    if marker is not None:
        text = f"{marker} {text}"
    if len(text) < length:
        text += " " + (_FILLING * (length // len(_FILLING) + 1))[: length - len(text) - 1]
    return text


def texts_of(
    tag: str, start: int, stop: int, length: int = 0, markers: Mapping[int, str] | None = None
) -> Iterator[str]:
    """Yield the texts of a range of positions."""
    for position in range(start, stop):
        yield text_of(tag, position, length, markers.get(position) if markers else None)


def id_of(tag: str, position: int) -> str:
    """Return the caller's id of an item, in jobs that have them."""
    return f"{tag}-{position}"


def tag_in(text: str) -> str:
    """Return the tag of a text."""
    first, second, _ = text.split(" ", 2)
    return second if first.startswith("!") else first
