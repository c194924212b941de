"""The table of the service under load."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.figures import Figures, NotMeasured
from benchmarks.tables import grid, joined, machine

Row = tuple[str, str]


def service(figures: Figures) -> str:
    """Return what the service bore, and how busy its machine was meanwhile."""
    sections = {name: found for name in _PARTS if (found := _section(figures, name)) is not None}
    if not sections:
        raise NotMeasured
    loads = [load for section in sections.values() for load in section["load_average"]]
    last = max((section["machine"] for section in sections.values()), key=lambda one: str(one["measured_at"]))
    shared = (
        f"The machine's load average was {min(loads):g} to {max(loads):g} on {last['cores']} cores while this was"
        " measured, what is measured included."
    )
    return joined(grid(["the service under load", "measured"], list(rows(sections))), shared, machine(last))


def rows(sections: dict[str, Any]) -> Iterator[Row]:
    """Yield what was measured, in words.

    Args:
        sections: Of the file of results, by name.
    """
    for name, told in _PARTS.items():
        if name in sections:
            yield from told(sections[name])


def _calls(section: dict[str, Any]) -> Iterator[Row]:
    who = f"{section['clients']} clients of `/v1/embeddings` beside a bulk job, {section['seconds']:.0f} s"
    marks = section["milliseconds"]
    answers = ", ".join(f"{count:,} × {status}" for status, count in section["statuses"].items())
    yield f"{who}: answers, by status", answers
    rates = f"{section['calls_per_second']:,.0f}; {section['bulk_texts_per_second']:,.0f}"
    yield "calls answered a second; texts of the bulk job a second meanwhile", rates
    waits = [f"{marks[name]:,.0f}" for name in ("median", "p90", "p99", "most")]
    yield "a call's wait, ms: median, 90 of 100, 99 of 100, most", ", ".join(waits)
    yield "processor time of the service a call, ms", f"{section['cpu_milliseconds_a_call']:.1f}"
    yield "memory of the service, MiB: first, last, most", _memory(section["memory"])


def _streams(section: dict[str, Any]) -> Iterator[Row]:
    who = f"{section['streams']:,} open event streams in one process"
    yield (
        f"{who}: seconds until all are open; told the end",
        f"{section['seconds_to_open']}; {section['seconds_to_end']}",
    )
    yield "streams that were told the end; that were lost", f"{section['told_the_end']:,}; {section['lost']}"
    waits = section["status_milliseconds"]
    yield "a question for a job's status meanwhile, ms: median, most", f"{waits['median']}, {waits['most']}"
    yield "cores that the service used while all were open", f"{section['cores']:.2f}"
    memory = section["memory"] | {"last": section["memory_open"]}
    yield "memory of the service, MiB: before, while all are open, most", _memory(memory)


def _moved(title: str) -> Callable[[dict[str, Any]], Iterator[Row]]:
    def told(section: dict[str, Any]) -> Iterator[Row]:
        rate = f"{section['megabytes_per_second']:,.0f}; {section['service_cpu_seconds']:.1f}"
        yield f"{title}, {section['bytes'] / 1e9:.2f} GB: MB/s; seconds of processor time of the service", rate
        service, client = section["service_memory"], section["client_memory"]
        found = (service["first"], service["peak"], client["first"], client["peak"])
        yield (
            "memory, MiB: the service before, at most; the client before, at most",
            ", ".join(f"{one / 2**20:,.0f}" for one in found),
        )

    return told


_PARTS: dict[str, Callable[[dict[str, Any]], Iterator[Row]]] = {
    "calls": _calls,
    "streams": _streams,
    "upload": _moved("NDJSON submitted in one stream"),
    "download": _moved("vectors as .npy, by our own client to a file"),
}


def _section(figures: Figures, name: str) -> dict[str, Any] | None:
    try:
        return figures.section("service", name)
    except NotMeasured:
        return None


def _memory(told: dict[str, int]) -> str:
    return ", ".join(f"{told[name] / 2**20:,.0f}" for name in ("first", "last", "most"))
