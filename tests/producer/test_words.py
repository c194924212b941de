"""Numbers and times as a person reads them."""

from __future__ import annotations

import pytest

from producer.words import compact, duration, short


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (None, ""),
        (7.26, "7.3 s"),
        (59.4, "59 s"),
        (59.7, "1 min 0 s"),
        (3_599.6, "1 h 0 min"),
        (86_399.9, "1 d 0 h"),
    ],
)
def test_a_length_of_time_has_never_sixty_of_a_unit(seconds: float | None, told: str) -> None:
    assert duration(seconds) == told


@pytest.mark.parametrize(
    ("number", "shortly", "compactly"),
    [
        (0, "0", "0"),
        (999.4, "999", "999"),
        (999.6, "1.0k", "1k"),
        (12_000, "12.0k", "12k"),
        (18_400, "18.4k", "18.4k"),
        (999_950, "1.0M", "1M"),
        (2_500_000_000, "2.5G", "2.5G"),
    ],
)
def test_a_large_number_has_never_a_thousand_of_a_unit(number: float, shortly: str, compactly: str) -> None:
    assert (short(number), compact(number)) == (shortly, compactly)
