"""The results as tables of docs/performance.md, each with the machine and the versions it was measured with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.figures import MINILM, Figures, NotMeasured
from benchmarks.workloads import WORKLOADS

#: Columns of the table of all workloads.
_SHOWN = {
    "sentence-transformers": "sentence-transformers, tokens/s",
    "sentence-transformers, best batch size": "at its best batch size",
    "OpenVINO bf16": "OpenVINO bf16",
    "embedmill float32": "float32",
    "embedmill auto": "auto",
    "embedmill openvino": "OpenVINO backend",
    "embedmill int8": "int8",
}


def contenders(figures: Figures, key: str = "W1") -> str:
    """Return everybody on one workload, the fastest first."""
    section = figures.section(MINILM, key)
    head = ["who", "tokens/s", "times", "least to most", "threads", "cosine to float32, least", "alone and in company"]
    rows = []
    found = section["contenders"]
    for name in sorted(found, key=lambda name: -float(found[name]["tokens_per_second"]["median"])):
        one, told = found[name], section["descriptions"].get(name, {})
        times = one["times_the_reference"]
        cells = [
            f"**{name}**" if name.startswith("embedmill") else name,
            f"{one['tokens_per_second']['median']:,.0f}",
            f"{times['median']:.2f}",
            f"{times['least']:.2f} to {times['most']:.2f}",
            str(told.get("threads", "")),
            f"{one['cosine']['least']:.5f}" if one["cosine"] else "",
            f"{one['alone_and_in_company']:.6f}" if one["alone_and_in_company"] else "",
            f"{one['cpu_seconds_a_million_tokens']:.0f}",
            f"{one['memory_mib']:,}",
        ]
        rows.append(cells)
    batch = {name: told["batch_size"] for name, told in section["best_batch_size"].items()}
    notes = [f"{section['texts_a_set']:,} texts, {section['tokens_a_set']:,} tokens a set; seed {section['seed']}."]
    notes += [f"Best batch sizes: {', '.join(f'{size} ({name})' for name, size in batch.items())}."] if batch else []
    notes += [f"Left out: {name}: {why}." for name, why in (section["left_out"] | section["failed"]).items()]
    return joined(grid([*head, "CPU s a million tokens", "MiB"], rows), " ".join(notes), machine(section["machine"]))


def workloads(figures: Figures) -> str:
    """Return how many times the reference everybody is on each workload that a file of results holds."""
    rows = []
    last: dict[str, Any] | None = None
    for key in WORKLOADS:
        try:
            last = figures.section(MINILM, key)
        except NotMeasured:
            continue
        rows.append([f"{key}, {last['title']}", *(_times(last, name) for name in _SHOWN)])
    if last is None:
        raise NotMeasured
    return joined(grid(["texts", *_SHOWN.values()], rows), machine(last["machine"]))


def _times(section: dict[str, Any], name: str) -> str:
    """Return a cell: tokens a second of the reference, how many times as much of everybody else."""
    one = section["contenders"].get(name)
    if name == "sentence-transformers":
        return f"{one['tokens_per_second']['median']:,.0f}"
    if one is not None:
        return f"{one['times_the_reference']['median']:.2f}"
    return "the same" if name in section["best_batch_size"] else ""


def layers(figures: Figures) -> str:
    """Return what each stage costs for each stack, and what the layers leave of the engine's rate."""
    reports = {}
    for name in ("embedmill float32", "embedmill auto", "embedmill openvino", "embedmill int8"):
        try:
            reports[name.partition(" ")[2]] = figures.section("stages", f"minilm, {name}")
        except NotMeasured:
            continue
    if not reports:
        raise NotMeasured
    found = [section["report"] for section in reports.values()]
    rows = []
    for stages in zip(*(report["stages"] for report in found), strict=True):
        costs = [f"{stage['seconds'] / stage['tokens'] * 1e6:.2f}" for stage in stages]
        rows.append([stages[0]["name"], *costs])
    shares = [section["floor_share"]["median"] for section in reports.values()]
    rates = [section["tokens_per_second"]["median"] for section in reports.values()]
    rows += [
        ["engine on all cores, tokens/s", *(f"{rate:,.0f}" for rate in rates)],
        ["padding", *(f"{report['padding']:.1%}" for report in found)],
        ["matrix products, GFLOP/s", *(f"{report['matrix_rate'] / 1e9:,.0f}" for report in found)],
        ["engine's share of that floor", *(f"{share:.0%}" for share in shares)],
    ]
    first = next(iter(reports.values()))
    return joined(grid(["µs of one core a token", *reports], rows), machine(first["machine"]))


def latency(figures: Figures) -> str:
    """Return how long somebody waits for one vector."""
    section = figures.section("latency", "auto")
    idle, busy = section["idle"], section["busy"]
    parts = {
        "the engine alone": idle["engine"],
        "idle stack, `priority=urgent`": idle["urgent"],
        "idle stack, `priority=bulk`": idle["bulk"],
        "while a bulk job runs, `priority=urgent`": busy["urgent"],
    }
    rows = []
    for title, part in parts.items():
        marks = [f"{part[mark]:.1f}" for mark in ("median", "p90", "p99", "most")]
        rows.append([title, *marks, str(len(part["milliseconds"]))])
    bulk = busy["bulk_tokens_per_second"]
    alone = " and ".join(f"{rate:,}" for rate in bulk["alone"])
    told = f"The bulk job made {alone} tokens/s before and after, {bulk['beside']:,} beside the single texts."
    head = ["one text, ms", "median", "90 of 100", "99 of 100", "most", "texts"]
    return joined(grid(head, rows), told, machine(section["machine"]))


def keys(figures: Figures) -> str:
    """Return what many small jobs cost against one."""
    section = figures.section("keys", "auto")
    titles = {"together": "one job", "apart": f"{section['keys']} keys, {section['jobs_a_key']:,} one-text jobs each"}
    rows = []
    for way, title in titles.items():
        for one in section[way]:
            rows.append([title, *(f"{one[name]:.1f}" for name in ("seconds", "submit_seconds", "cpu_seconds"))])
    told = f"Small jobs cost {section['times']:.2f} times one job, by the medians."
    return joined(grid(["how", "seconds", "of these submitting", "CPU s"], rows), told, machine(section["machine"]))


def stores(figures: Figures) -> str:
    """Return vectors committed a second, and what reading a large job takes."""
    names = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
    committed = [
        [name, str(run["width"]), str(run["texts_a_chunk"]), *_spread(run["vectors_a_second"])]
        for kind, name in names.items()
        for run in figures.section("stores", f"commit-{kind}")["runs"]
    ]
    rates = {kind: figures.section("stores", f"read-{kind}")["megabytes_a_second"] for kind in names}
    read = [[f"{names[kind]} to a {way}", *_spread(rates[kind][way])] for kind in names for way in ("pipe", "file")]
    read += [[way, *_spread(rates["sqlite"][way])] for way in ("cp", "cp, synced")]
    return joined(
        grid(["committed vectors/s", "width", "texts a chunk", "median", "least to most"], committed),
        grid(["a job of 1 GB as .npy, MB/s", "median", "least to most"], read),
        machine(figures.section("stores", "commit-sqlite")["machine"]),
    )


def submit(figures: Figures) -> str:
    """Return speed and peak memory of submitting through each door."""
    rows = []
    last: dict[str, Any] | None = None
    for door in ("client-sqlite", "client-sqlite-ids", "client-postgresql", "command-sqlite"):
        try:
            last = figures.section("submit", door)
        except NotMeasured:
            continue
        for one in last["runs"]:
            cells = [f"{one['texts']:,}", f"{one['texts_per_second']:,}", f"{one['peak_bytes'] / 2**20:,.0f}"]
            rows.append([last["title"], *cells])
    if last is None:
        raise NotMeasured
    return joined(grid(["door", "texts", "texts/s", "peak memory, MiB"], rows), machine(last["machine"]))


def machine(found: dict[str, Any]) -> str:
    """Return what was measured on and with, in a sentence."""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    instructions = f" ({', '.join(found['instructions'])})" if found["instructions"] else ""
    where = f"{found['processor']}{instructions}, {found['cores']} cores, {found['memory_gib']:.0f} GiB"
    return f"{where}; Python {found['python']}, {versions}; {found['measured_at'][:10]}, commit {found['commit']}."


def _spread(rate: dict[str, float]) -> list[str]:
    return [f"{rate['median']:,.0f}", f"{rate['least']:,.0f} to {rate['most']:,.0f}"]


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def joined(*parts: str) -> str:
    """Return paragraphs and tables below one another."""
    return "\n\n".join(parts)
