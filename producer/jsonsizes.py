"""How large JSON becomes once it is parsed, found without parsing it: two bytes of it may take hundreds in memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Bytes that are looked at together.
_BLOCK = 1 << 20

#: What each byte does to the depth, and which of them begin a value behind another one.
_STEPS = np.zeros(256, dtype=np.int8)
_STEPS[list(b"[{")], _STEPS[list(b"]}")] = 1, -1
_BEGINS = np.zeros(256, dtype=np.bool_)
_BEGINS[list(b"[{,")] = True


class JSONSize(NamedTuple):
    """How much there is in a JSON value; of what is no JSON, in what a parser reads of it before it sees so.

    Args:
        depth: How deep lists and objects are nested.
        values: About how many values there are, lists and objects too.
        members: How many of them have a name.
    """

    depth: int
    values: int
    members: int

    def fits(self, most: JSONSize) -> bool:
        """Whether there is no more of anything than in another one."""
        return all(one <= limit for one, limit in zip(self, most, strict=True))


def is_within(data: bytes, most: JSONSize) -> bool:
    """Whether JSON has no more of anything than allowed.

    Args:
        data: The JSON, in UTF-8.
        most: What is allowed.
    """
    return _at_most(data).fits(most) or measured(data).fits(most)


def _at_most(data: bytes) -> JSONSize:
    """Return what cannot be exceeded, at once: as if all marks in texts were no part of the texts."""
    opened = data.count(b"[") + data.count(b"{")
    return JSONSize(opened, opened + data.count(b","), data.count(b":"))


def measured(data: bytes) -> JSONSize:
    """Return how much there is, in time that grows with the length alone, whatever the bytes are.

    Args:
        data: The JSON, in UTF-8.
    """
    if b"\\" in data:
        data = data.replace(rb"\\", b"").replace(rb"\"", b"")
    depth = deepest = values = members = 0
    within = np.uint8(0)
    for start in range(0, len(data), _BLOCK):
        block = np.frombuffer(data, dtype=np.uint8, count=min(_BLOCK, len(data) - start), offset=start)
        texts = np.bitwise_xor.accumulate((block == ord('"')).view(np.uint8)) ^ within
        within = texts[-1]
        outside: NDArray[np.uint8] = block[texts == 0]
        depths = np.cumsum(_STEPS[outside], dtype=np.int64)
        if len(depths):
            deepest = max(deepest, depth + int(depths.max()))
            depth += int(depths[-1])
        values += int(_BEGINS[outside].sum())
        members += int((outside == ord(":")).sum())
    return JSONSize(deepest, values, members)
