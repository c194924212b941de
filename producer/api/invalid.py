"""What is wrong with a request's form, in words for whoever sent it: of JSON, not of the classes that read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: What is said in place of Pydantic's own words, by the kind of its error.
_WORDS = {
    "dict_type": "it is no JSON object",
    "extra_forbidden": "there is no such field here",
    "list_type": "it is no JSON list",
    "missing": "it is missing",
    "model_attributes_type": "it is no JSON object",
    "model_type": "it is no JSON object",
    "string_pattern_mismatch": "it does not have the form that is asked for, see GET /openapi.json",
    "string_unicode": "it holds a lone surrogate",
}

#: What Pydantic puts before the words of a check of ours.
_OWN = "Value error, "

#: The kinds of values that a field may be one of; Pydantic counts them as places within it.
_KINDS = frozenset({"bool", "dict", "float", "int", "str"})


def sentence(error: Mapping[str, Any]) -> str:
    """Return what is wrong, as a sentence that begins with the place; never what was sent.

    Args:
        error: One of Pydantic's errors: its `loc`, `type` and `msg`.
    """
    told = _WORDS.get(error["type"]) or str(error["msg"]).removeprefix(_OWN)
    return f"{place(error['loc'])}: {told.rstrip('.')}."


def place(loc: Sequence[int | str]) -> str:
    """Return where in a request something is, such as `input.3`, without `body` or `query` before it.

    Args:
        loc: The place as Pydantic has it.
    """
    first, *rest = [str(part) for part in loc[1:]] or [str(loc[0])]
    return ".".join([first, *(part for part in rest if part not in _KINDS and "[" not in part)])
