"""Pictures of the results, as SVG files beside docs/performance.md; what was not measured is not drawn."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.figures import MINILM, PARAGRAPHS, Figures, NotMeasured
from benchmarks.results import FOLDER
from benchmarks.workloads import WORKLOADS

_DOCS = Path(__file__).resolve().parents[1] / "docs"

#: Ours, the reference, and everybody else; two of them must be told apart in grey too.
_OURS, _REFERENCE, _OTHERS = "#1b6e53", "#8a8f98", "#c9ced6"

_GOAL = "#b3423a"


_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: smaller files, and a reader can search them
    "svg.hashsalt": "embedmill",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "figure.constrained_layout.use": True,
}


def throughput(figures: Figures) -> Figure:
    """Draw tokens a second of everybody on mixed paragraphs, and how many times the reference that is."""
    found = figures.section(MINILM, PARAGRAPHS)["contenders"]
    rows = {name: one for name, one in found.items() if not name.startswith("layer:")}
    names = sorted(rows, key=lambda name: float(rows[name]["tokens_per_second"]["median"]))
    figure, axes = pyplot.subplots(figsize=(7.2, 0.32 * len(names) + 0.9))
    rates = [rows[name]["tokens_per_second"] for name in names]
    medians = [rate["median"] for rate in rates]
    spreads = [[rate["median"] - rate["least"] for rate in rates], [rate["most"] - rate["median"] for rate in rates]]
    axes.barh(names, medians, color=[_colour(name) for name in names], height=0.7)
    axes.errorbar(medians, range(len(names)), xerr=spreads, fmt="none", ecolor="#333333", elinewidth=0.8, capsize=2)
    for place, name in enumerate(names):
        times = f"{rows[name]['times_the_reference']['median']:.2f}x"
        weight = "bold" if _is_ours(name) else "normal"
        at = (rates[place]["most"], place)
        axes.annotate(times, at, xytext=(5, 0), textcoords="offset points", va="center", fontweight=weight)
    figure.suptitle(
        "Tokens a second on mixed paragraphs: median and range of the rounds", x=0.01, ha="left", fontsize=10
    )
    axes.margins(x=0.12)
    _thousands(axes)
    return figure


def workloads(figures: Figures) -> Figure:
    """Draw how many times the reference everybody is, workload by workload."""
    shown = ["OpenVINO bf16", "embedmill float32", "embedmill auto", "embedmill openvino", "embedmill int8"]
    keys = [key for key in WORKLOADS if _has(lambda key=key: figures.section(MINILM, key))]  # type: ignore[misc]
    if not keys:
        raise NotMeasured
    figure, panels = pyplot.subplots(2, 4, figsize=(9.6, 4.4), sharex=True, sharey=True)
    for axes, key in zip(panels.flat, keys, strict=False):
        found = figures.section(MINILM, key)["contenders"]
        names = [name for name in reversed(shown) if name in found]
        times = [found[name]["times_the_reference"]["median"] for name in names]
        bars = axes.barh(names, times, color=[_colour(name) for name in names], height=0.7)
        axes.bar_label(bars, [f"{value:.2f}" for value in times], padding=3, fontsize=8)
        axes.axvline(1, color=_REFERENCE, linewidth=1)
        axes.set_title(f"{key}: {WORKLOADS[key].title.partition(':')[0]}", fontsize=9)
        axes.margins(x=0.2)
    for axes in panels.flat[len(keys) :]:
        axes.set_visible(False)
    figure.suptitle("Times sentence-transformers with its defaults (grey line)", x=0.01, ha="left", fontsize=10)
    return figure


def layers(figures: Figures) -> Figure:
    """Draw what a token costs in each stage, and what is left of the engine's rate with each layer around it."""
    report = figures.section("stages", "minilm, embedmill auto")["report"]
    found = figures.section(MINILM, PARAGRAPHS)["contenders"]
    steps = {
        "engine": "layer: engine",
        "+ storage": "layer: engine and storage",
        "+ queue: whole path": "embedmill auto",
    }
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(7.6, 2.4), width_ratios=(1.1, 1))
    names = [stage["name"] for stage in report["stages"]][::-1]
    costs = [stage["seconds"] / stage["tokens"] * 1e6 for stage in report["stages"]][::-1]
    bars = left.barh(names, costs, color=[_OURS if name == "forward" else _REFERENCE for name in names], height=0.7)
    left.bar_label(bars, [f"{cost:.1f}" if cost >= 0.1 else "< 0.1" for cost in costs], padding=3)
    left.set_title("µs of one core a token, auto dtype")
    left.margins(x=0.15)
    shown = [step for step in steps if steps[step] in found][::-1]
    rates = [found[steps[step]]["tokens_per_second"]["median"] for step in shown]
    bars = right.barh(shown, rates, color=_OURS, height=0.6)
    right.bar_label(bars, [f"{rate:,.0f}" for rate in rates], padding=3)
    right.set_title("tokens a second, two cores" if report["cores"] == 2 else "tokens a second")
    right.margins(x=0.25)
    _thousands(right)
    return figure


def latency(figures: Figures) -> Figure:
    """Draw which share of single texts had their vectors within how many milliseconds."""
    section = figures.section("latency", "auto")
    lines = {
        "engine alone": (section["idle"]["engine"], _OTHERS, "-"),
        "idle stack": (section["idle"]["urgent"], _OURS, "-"),
        "while a bulk job runs": (section["busy"]["urgent"], _OURS, "--"),
    }
    figure, axes = pyplot.subplots(figsize=(7.2, 2.8))
    for name, (found, colour, dash) in lines.items():
        times = np.array(found["milliseconds"])
        shares = np.arange(1, len(times) + 1) / len(times)
        axes.step(times, shares, where="post", color=colour, linestyle=dash, linewidth=1.6, label=name)
    for limit, share, told in ((60, 0.5, "goal: median 60 ms"), (200, 0.99, "goal: 99 of 100 in 200 ms")):
        axes.plot(limit, share, "x", color=_GOAL)
        axes.annotate(told, (limit, share), xytext=(6, -11), textcoords="offset points", color=_GOAL, fontsize=8)
    axes.set_xscale("log")
    axes.set_xticks([2, 5, 10, 20, 50, 100, 200, 500], labels=["2", "5", "10", "20", "50", "100", "200", "500"])
    axes.minorticks_off()
    axes.set_xlabel("milliseconds from submit to the vector in hand")
    axes.set_title("Share of single texts that are done within a time")
    axes.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1))
    axes.legend(frameon=False, loc="lower right")
    return figure


PLOTS: dict[str, Callable[[Figures], Figure]] = {
    "throughput": throughput,
    "workloads": workloads,
    "layers": layers,
    "latency": latency,
}


def _thousands(axes: Axes) -> None:
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
    axes.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:,.0f}"))


def _colour(name: str) -> str:
    return _OURS if _is_ours(name) else _REFERENCE if name == "sentence-transformers" else _OTHERS


def _is_ours(name: str) -> bool:
    return name.startswith("embedmill")


def _has(look: Callable[[], Any]) -> bool:
    try:
        look()
    except NotMeasured:
        return False
    return True


def main() -> None:
    """Draw every picture whose results are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder of the results")
    parser.add_argument("--output", type=Path, default=_DOCS, help="where the files are written")
    parser.add_argument("--format", default="svg", help="svg, or png to look at")
    asked = parser.parse_args()
    figures = Figures(asked.results)
    matplotlib.use("Agg")
    with pyplot.rc_context(_STYLE):
        for name, draw in PLOTS.items():
            try:
                figure = draw(figures)
            except NotMeasured:
                print(f"{name}: not measured")
                continue
            metadata = {"Date": None} if asked.format == "svg" else None
            figure.savefig(asked.output / f"performance-{name}.{asked.format}", metadata=metadata, dpi=110)
            pyplot.close(figure)


if __name__ == "__main__":
    main()
