"""One JSON value out of one line, or a reason that holds nothing of the line."""

from __future__ import annotations

import json

_BLANKS = " \t\r\n"

#: As `json.loads`, less what that spends on each call; it gives the value and where it ends.
_decode = json.JSONDecoder().raw_decode


class NotJSON(Exception):
    """Raised when a line is no JSON value; its message is the reason and holds nothing of the line."""


def json_value(line: str) -> object:
    """Return the value on a line.

    Raises:
        NotJSON: When it is none.
    """
    try:
        value, end = _decode(line, len(line) - len(line.lstrip(_BLANKS)))
        if line[end:].strip(_BLANKS):
            raise json.JSONDecodeError("more behind the value", line, end)
    except json.JSONDecodeError as error:
        raise NotJSON(f"not JSON at character {error.pos + 1}" if line.strip() else "blank line") from None
    except ValueError:  # Python refuses to read whole numbers of thousands of digits
        raise NotJSON("a number is too long") from None
    except RecursionError:
        raise NotJSON("nested too deeply") from None
    return value
