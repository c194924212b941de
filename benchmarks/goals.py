"""The goals and what was measured of them; what was not measured stays empty."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from benchmarks.figures import BARE, MATRIX_UNIT, MINILM, PARAGRAPHS, Figures, NotMeasured

_AUTO, _INT8, _FLOAT32 = "embedmill auto", "embedmill int8", "embedmill float32"

#: Paragraphs of mixed lengths: as they are in docstrings, and with generated lengths, by workload.
_MIXED = {"W7": "mixed paragraphs (docstrings)", "W1": "mixed paragraphs (generated lengths)"}


@dataclass(frozen=True, slots=True)
class Goal:
    """One row.

    Args:
        what: What is measured.
        aim: What it is to be at least.
        form: How the number is written.
        section: File and section of the results it comes from, which say where and when.
        measure: Takes it out of them.
        most: Whether the aim is the most it may be.
    """

    what: str
    aim: float
    form: str
    section: tuple[str, str]
    measure: Callable[[Figures], float]
    most: bool = False


def goals() -> Iterator[Goal]:
    """Yield every goal that a machine without a GPU can show."""
    yield from _times()
    yield from _vectors()
    yield from _shares()
    yield from _storage()
    yield from _waiting()


def _times() -> Iterator[Goal]:
    title = "times sentence-transformers with its defaults"
    aims = {"W2": ("short", 3.2), "W5": ("bimodal", 2.8), "W3": ("all long", 2.0)}
    for key, (kind, aim) in ({key: (kind, 3.3) for key, kind in _MIXED.items()} | aims).items():
        measure = partial(Figures.times, workload=key, name=_AUTO)
        yield Goal(f"auto dtype, {kind}: {title}", aim, "{:.2f}", (MINILM, key), measure)
    for name, aim in ((_FLOAT32, 1.9), (_INT8, 5.0)):
        for key, kind in _MIXED.items():
            measure = partial(Figures.times, workload=key, name=name)
            yield Goal(f"{name.partition(' ')[2]}, {kind}: {title}", aim, "{:.2f}", (MINILM, key), measure)
    base = "throughput-bert-base"
    measure = partial(Figures.times, workload="W1", name=_AUTO, file=base)
    yield Goal(f"BERT-base shape, auto dtype, mixed paragraphs: {title}", 4.0, "{:.2f}", (base, "W1"), measure)


def _vectors() -> Iterator[Goal]:
    where = (MINILM, PARAGRAPHS)
    for part, aim in (("mean", 0.9999), ("least", 0.9998)):
        near = partial(Figures.closeness, name=_AUTO, part=part, workloads=("W1", "W2", "W3", "W5", "W7"))
        yield Goal(f"auto dtype: cosine to float32, {part}", aim, "{:.5f}", where, near)
    differ = partial(Figures.difference, name=_FLOAT32)
    yield Goal("float32: largest difference of a component", 1e-5, "{:.1e}", where, differ, most=True)
    company = {
        "bf16, packed": (_AUTO, 0.99999),
        "bf16, padded (OpenVINO)": ("embedmill openvino", 0.9999),
        "int8": (_INT8, 0.999),
    }
    for kind, (name, aim) in company.items():
        in_company = partial(Figures.in_company, name=name)
        yield Goal(f"{kind}: cosine of a text alone and in company", aim, "{:.6f}", where, in_company)


def _shares() -> Iterator[Goal]:
    where = (MINILM, PARAGRAPHS)
    for precision in BARE:
        what = f"whole path, share of the fastest bare library at the same precision: {precision}"
        yield Goal(what, 0.9, "{:.0%}", where, partial(Figures.beside_bare, precision=precision))
    stages = ("stages", f"minilm, {_AUTO}")
    outside = partial(Figures.outside_encoder, name=_AUTO)
    yield Goal("auto dtype: CPU time spent outside the encoder", 0.05, "{:.1%}", stages, outside, most=True)
    floor = partial(Figures.floor_share, name=_AUTO)
    yield Goal("auto dtype: share of the matrix-product rate of the same run", 0.62, "{:.0%}", stages, floor)
    over = partial(Figures.over, name=_AUTO, other="layer: engine")
    yield Goal("whole path over engine alone", 0.95, "{:.0%}", where, over)


def _storage() -> Iterator[Goal]:
    doors = {
        "client-sqlite": ("Client to SQLite", 150_000),
        "client-postgresql": ("Client to PostgreSQL", 50_000),
        "command-sqlite": ("a jsonl file through the command line", 50_000),
    }
    for door, (title, aim) in doors.items():
        submitted = partial(Figures.submitted, door=door)
        yield Goal(f"bulk submit of 50-token texts, texts/s: {title}", aim, "{:,.0f}", ("submit", door), submitted)
    aims = {("sqlite", 384): 100_000, ("sqlite", 768): 60_000, ("postgresql", 384): 40_000, ("postgresql", 768): 40_000}
    names = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
    for (kind, width), aim in aims.items():
        committed = partial(Figures.committed, kind=kind, width=width)
        what = f"committed vectors/s through the result store alone, {width} wide: {names[kind]}"
        yield Goal(what, aim, "{:,.0f}", ("stores", f"commit-{kind}"), committed)
    for kind, aim in (("sqlite", 2000), ("postgresql", 400)):
        read = partial(Figures.read, kind=kind, way="pipe")
        what = f"reading a 1 GB job as .npy into a pipe, MB/s: {names[kind]}"
        yield Goal(what, aim, "{:,.0f}", ("stores", f"read-{kind}"), read)
    what = "the same from SQLite to a file, share of `cp`'s rate, both synced"
    yield Goal(what, 0.7, "{:.0%}", ("stores", "read-sqlite"), Figures.beside_cp)


def _waiting() -> Iterator[Goal]:
    where = ("latency", "auto")
    beyond = "one text through an idle stack, submit to vector in hand, beyond engine time, ms (median)"
    yield Goal(beyond, 15, "{:.1f}", where, Figures.beyond_engine, most=True)
    for mark, title, aim in (("median", "median", 60), ("p99", "99 of 100 within", 200)):
        busy = partial(Figures.latency, part="busy", what="urgent", mark=mark)
        yield Goal(f"one text while a bulk job runs, ms: {title}", aim, "{:.0f}", where, busy, most=True)
    what = "one-text jobs of 100 keys: times the cost of one job with as many texts"
    yield Goal(what, 3, "{:.2f}", ("keys", "auto"), Figures.apart, most=True)


#: Goals for one H200; `benchmarks/gpu.py` measures them where there is one.
_ON_A_GPU = (
    ("BERT-base, mixed lengths: engine, share of the bf16 floor of the same call", "65 %"),
    ("BERT-base, mixed lengths: times sentence-transformers fp16 at its best batch size", "4"),
    ("BERT-base, mixed lengths: times a padded, sorted, token-budget bf16 baseline", "1.5"),
    ("BERT-base, 50 tokens, and 512: tokens/s", "2,500,000"),
    ("whole path over engine; GPU busy", "95 %; 95 %"),
    ("MiniLM-L6: times sentence-transformers", "8"),
)


#: The machines that the goals are held against, by what the names of their results end in.
_MACHINES = {"": "vector registers", MATRIX_UNIT: "matrix unit"}


def table(figures: Figures) -> str:
    """Return all goals as a Markdown table, and which machines they were measured on, and when."""
    machines = {kind: figures.of(machine) for machine, kind in _MACHINES.items()}
    lines = [f"| goal | at least | {' | | '.join(machines)} | |", f"| --- | --- |{' --- | --- |' * len(machines)}"]
    for goal in goals():
        aim = f"{'at most ' if goal.most else ''}{goal.form.format(goal.aim)}"
        judged = " | ".join(" | ".join(_judged(goal, of)) for of in machines.values())
        lines.append(f"| {goal.what} | {aim} | {judged} |")
    lines += [f"| H200: {what} | {aim} |{' |' * 2 * len(machines)}" for what, aim in _ON_A_GPU]
    told = [f"{kind}: {_where(of)}" for kind, of in machines.items() if _where(of)]
    return "\n".join([*lines, "", f"Where and when: {'; '.join(told)}."] if told else lines)


def _judged(goal: Goal, figures: Figures) -> tuple[str, str]:
    try:
        value = goal.measure(figures)
    except NotMeasured:
        return "", ""
    met = (operator.le if goal.most else operator.ge)(value, goal.aim)
    return goal.form.format(value), "met" if met else "**missed**"


def _where(figures: Figures) -> str:
    """Return which processors these results are of, and from when until when they were measured; nothing for none."""
    found: dict[str, set[str]] = {}
    for section in {goal.section for goal in goals()}:
        with suppress(NotMeasured):
            machine = figures.section(*section)["machine"]
            found.setdefault(f"{machine['processor']}, {machine['cores']} cores", set()).add(
                machine["measured_at"][:10]
            )
    return ", ".join(f"{name}, {' to '.join(sorted({min(days), max(days)}))}" for name, days in sorted(found.items()))
