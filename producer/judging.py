"""Judges items at the door: what is a valid text and a valid id, and the reason when one is not."""

from __future__ import annotations

from producer.records import Record

#: Longest caller's id, in characters.
MAX_ID_LENGTH = 512


def judge_text(record: Record, max_bytes: int) -> tuple[bytes, str | None]:
    """Return a record's text in UTF-8, or the reason why it is no valid text.

    Args:
        record: What a reader found.
        max_bytes: Longest text, in bytes of UTF-8.

    Returns:
        The bytes and None, or empty bytes and the reason.
    """
    text = record.text
    if record.problem is not None:
        return b"", record.problem
    if not isinstance(text, str):
        return b"", f"the text is {_kind(text)}, not a string"
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        return b"", f"the text has a lone surrogate at character {error.start}"
    if len(encoded) > max_bytes:
        return b"", f"the text has {len(encoded):,} bytes, more than the limit of {max_bytes:,}"
    if not encoded or text.isspace():
        return b"", "the text is empty" if not encoded else "the text is blank"
    return encoded, None


def judge_id(custom_id: object) -> tuple[str, str | None]:
    """Return a caller's id, or the reason why it is no valid one; repeated ids are judged elsewhere."""
    if custom_id is None:
        return "", "the id is missing"
    if not isinstance(custom_id, str):
        return "", f"the id is {_kind(custom_id)}, not a string"
    if not custom_id or custom_id.isspace():
        return "", "the id is empty"
    if len(custom_id) > MAX_ID_LENGTH:
        return "", f"the id has {len(custom_id):,} characters, more than the limit of {MAX_ID_LENGTH}"
    try:
        custom_id.encode()
    except UnicodeEncodeError:
        return "", "the id has a lone surrogate"
    return custom_id, None


def estimate_tokens(encoded: bytes) -> int:
    """Return a rough number of tokens: about 4.5 bytes a token in Latin script, one a character in Chinese."""
    if encoded.isascii():
        return 2 + len(encoded) * 2 // 9
    return 2 + len(encoded) // 3


def _kind(value: object) -> str:
    names = {"NoneType": "missing", "dict": "an object", "list": "a list", "bool": "a truth value"}
    names |= {"int": "a number", "float": "a number", "bytes": "bytes"}
    name = type(value).__name__
    return names.get(name, f"a {name}")
