"""Which skips CI allows: a skip nobody expected is a test that nobody runs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

#: Each line: a pattern of the whole reason, a tab, and why such a test may be skipped. `#` begins a comment.
ALLOWED = Path(__file__).with_name("allowed_skips.txt")


def allowed_patterns(text: str) -> list[re.Pattern[str]]:
    """Return the patterns of a list of allowed skips.

    Raises:
        ValueError: When a line does not say why.
    """
    patterns = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pattern, _, why = line.partition("\t")
        if not why.strip():
            raise ValueError(f"an allowed skip does not say why: {line!r}")
        patterns.append(re.compile(pattern))
    return patterns


def unexpected(skips: Iterable[tuple[str, str]], patterns: Iterable[re.Pattern[str]]) -> list[str]:
    """Return a line for each skipped test, given with its reason, that no pattern allows."""
    known = list(patterns)
    return [f"{test}: {reason}" for test, reason in skips if not any(pattern.fullmatch(reason) for pattern in known)]
