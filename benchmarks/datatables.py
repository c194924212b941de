"""The tables of docs/data.md: room, the move, vectors by plain SQL and in pgvector."""

from __future__ import annotations

from typing import Any

from benchmarks.figures import Figures
from benchmarks.tables import grid, joined, machine


def sizes(figures: Figures) -> str:
    """Return the room that a million vectors take."""
    section = figures.section("data", "sizes")
    names = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
    rows: dict[tuple[int, str], dict[str, Any]] = {}
    for one in section["figures"]:
        rows.setdefault((one["width"], one["dtype"]), {})[one["database"]] = one
    told = [
        [
            f"{width:,} numbers, `{dtype}`",
            *(f"{found[kind][part]:.2f}" for kind in names for part in ("gb", "without_texts_gb")),
        ]
        for (width, dtype), found in rows.items()
    ]
    head = ["GB a million vectors"]
    head += [f"{name}, {how}" for name in names.values() for how in ("with texts", "when the texts have gone")]
    length = section["figures"][0]["bytes_a_text"]
    texts = f"Texts of {length:.0f} letters on average, made of the examples' words, and ids of six or seven."
    return joined(grid(head, told), f"{texts} {_shared(section)}")


def move(figures: Figures) -> str:
    """Return how long a move took, and what of it was compared."""
    section = figures.section("data", "move")
    found = section["figures"]
    compared = ", ".join(f"{count:,} of `{name}`" for name, count in found["rows_equal"].items())
    took = f"{found['seconds']:.1f} s"
    told = f"{found['texts']:,} texts in ten jobs, with vectors of 384 numbers and `fsync` on: {took}."
    same = f"Every row of both databases was then compared, to the byte, and was the same: {compared}."
    return f"{told} {same} {_shared(section)}"


def pgvector(figures: Figures) -> str:
    """Return the rates of plain SQL and pgvector, and how many of the true neighbours were found."""
    section = figures.section("data", "pgvector")
    found = section["figures"]
    rows = []
    for kind in ("vector", "halfvec"):
        one = found[kind]
        recalls = [f"{near['recall_at_10']:.3f}; {near['ms']:.1f}" for near in one["hnsw"].values()]
        exact = f"{one['exact_as_numpy']:.3f}; {one['exact_ms']:.1f}"
        rates = [f"{one['vectors_per_second']:,.0f}", f"{one['index_seconds']:.0f}", f"{one['index_memory_mb']:,}"]
        rows.append([f"`{kind}`", *rates, exact, *recalls])
    head = ["type", "published vectors/s", "index built, s", "memory advised, MB", "no index: found; ms"]
    head += [f"`hnsw.ef_search` {most}: found; ms" for most in found["vector"]["hnsw"]]
    told = (
        f"{found['vectors']:,} vectors of {found['width']} numbers in a hundred clusters. Found is how many of the ten"
        f" nearest by NumPy's exact answer came back, on average of {found['vector']['questions']} questions; ms is the"
        f" time of one question. The view `item_vectors` gave {found['by_sql_per_second']:,.0f} vectors a second."
    )
    return joined(grid(head, rows), f"{told} {_shared(section)}")


def _shared(section: dict[str, Any]) -> str:
    before, after = section["load_average"]
    cores = section["machine"]["cores"]
    load = (
        f"The machine had other work too: its load average was {before:g} before and {after:g} after, on {cores} cores."
    )
    return f"{load} {machine(section['machine'])}"
