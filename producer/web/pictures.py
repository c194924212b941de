"""Pictures as numbers: what the templates draw as SVG, with nothing left to work out there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from producer.words import compact, duration
from storage.throughputs import Throughput

#: Size of the picture of a throughput, in its own units; it is stretched to the room there is.
WIDTH, HEIGHT = 960.0, 160.0

#: Part of a stretch that its bar takes.
_BAR = 0.78

_NICE = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its place in the picture's units, and what it says when one points at it."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True)
class Bars:
    """A throughput over time.

    Args:
        bars: One a stretch.
        top: What the picture's upper edge stands for, as a person reads it.
        middle: What half of it does.
        span: How long all of it took.
        summary: The picture in one sentence, for those who do not see it.
    """

    bars: list[Bar]
    top: str
    middle: str
    span: str
    summary: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One component of a vector as a coloured cell: its place, its sign and how strong it is, 0..1."""

    x: float
    negative: bool
    strength: float
    title: str


def bars(throughput: Throughput) -> Bars:
    """Return the picture of a throughput."""
    rates = throughput.tokens_per_second()
    top = _nice(max(rates))
    step = WIDTH / len(rates)
    drawn = []
    for place, rate in enumerate(rates):
        height = HEIGHT * rate / top
        begin, end = (duration(throughput.stretch * at) for at in (place, place + 1))
        texts = throughput.items[place]
        title = f"{begin} to {end}: {rate:,.0f} tokens/s, {texts:,} texts"
        x = place * step + step * (1 - _BAR) / 2
        drawn.append(Bar(round(x, 2), round(HEIGHT - height, 2), round(step * _BAR, 2), round(height, 2), title))
    mean = sum(throughput.tokens) / throughput.span * 1000
    summary = (
        f"Tokens a second over {duration(throughput.span / 1000)}: {mean:,.0f} on average, {max(rates):,.0f} at most."
    )
    return Bars(drawn, compact(top), compact(top / 2), duration(throughput.span / 1000), summary)


def cells(vector: Sequence[float]) -> list[Cell]:
    """Return a vector as a strip of cells, one unit wide each."""
    largest = max((abs(value) for value in vector), default=0.0) or 1.0
    return [
        Cell(place, value < 0, round(abs(value) / largest, 3), f"{place}: {value:.4f}")
        for place, value in enumerate(vector)
    ]


def _nice(value: float) -> float:
    """Return the next round number that is not below a value."""
    if value <= 0:
        return 1.0
    size = 1.0
    while size * 10 < value:
        size *= 10
    while size > value:
        size /= 10
    return next(size * step for step in _NICE if size * step >= value)
