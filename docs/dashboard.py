"""Records the dashboard at work and draws it: PYTHONPATH=. python docs/dashboard.py [SECONDS].

A real stack is run and given work, a real Prometheus asks it, and every panel's expressions are asked of that; what
comes back is drawn by matplotlib, since Grafana is no Python package. Ends with an error when a panel's expression is
not valid, or has nothing to show although there is something. Needs Debian's `prometheus`, and matplotlib.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from tests.acceptance.shell import Shell, address, serving, until
from tests.servers import short_folder
from tests.stack import free_port, worker_pids

ROOT = Path(__file__).resolve().parents[1]
BOARD = ROOT / "deploy" / "grafana" / "dashboards" / "embedmill.json"

_WORDS = """
the miller grinds wheat rye barley and oats between two stones while water turns the wheel under the old mill
"""

#: Seconds between two questions of Prometheus, and the stretch that rates are taken over.
_EVERY, _STRETCH = 3, 30

#: What there is nothing of on a machine without a GPU.
_ELSEWHERE = "embedmill_gpu"


@dataclass
class Drawn:
    """A panel and the series it shows, each with its legend: moments and values."""

    panel: dict[str, Any]
    series: list[tuple[str, list[tuple[float, float]]]]


def main(seconds: float) -> None:
    """Record and draw.

    Args:
        seconds: How long the stack is given work.
    """
    with short_folder() as folder:
        shell = Shell(folder / "data", folder)
        log = folder / "log"
        with serving(shell, "up", "--port", 0, log=log) as up, _prometheus(folder, address(log)) as asked:
            began = time.time()
            _work(address(log), up.pid, seconds)
            lasted = time.time() - began
            drawn = [_ask(asked, panel, began) for panel in _panels()]
    empty = [one.panel["title"] for one in drawn if not one.series and _ELSEWHERE not in json.dumps(one.panel)]
    for one in drawn:
        print(f"{one.panel['title']}: {len(one.series)} series")
    _draw(drawn, began, lasted)
    if empty:
        sys.exit(f"These show nothing: {', '.join(empty)}")


@contextmanager
def _prometheus(folder: Path, service: str) -> Iterator[httpx.Client]:
    scrape = {"job_name": "embedmill-api", "static_configs": [{"targets": [service.removeprefix("http://")]}]}
    config = {"global": {"scrape_interval": f"{_EVERY}s", "scrape_timeout": f"{_EVERY}s"}, "scrape_configs": [scrape]}
    (folder / "prometheus.json").write_text(json.dumps(config))
    where = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={folder}/prometheus.json", f"--storage.tsdb.path={folder}/series"]
    with (folder / "prometheus.log").open("wb") as told:
        process = subprocess.Popen([*command, f"--web.listen-address={where}"], stdout=told, stderr=told)
    try:
        with httpx.Client(base_url=f"http://{where}", timeout=60) as http:
            until(lambda: _answers(http), "Prometheus", 60)
            yield http
    finally:
        process.terminate()
        process.wait(30)


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/-/ready").status_code == 200
    except httpx.TransportError:
        return False


def _work(url: str, up: int, seconds: float) -> None:
    """Submit jobs of both priorities, look at them, and end a worker process in the middle."""
    dice = random.Random(7)
    begin, killed = time.monotonic(), False
    with httpx.Client(base_url=url, timeout=120) as http:
        while (passed := time.monotonic() - begin) < seconds:
            texts = [
                " ".join(dice.choices(_WORDS.split(), k=dice.randint(3, 40))) for _ in range(dice.randint(20, 120))
            ]
            if passed < 0.65 * seconds:
                http.post("/v1/jobs", json={"texts": texts}).raise_for_status()
            http.post("/v1/jobs", json={"texts": texts[:3], "priority": "urgent"}).raise_for_status()
            http.get("/v1/jobs").raise_for_status()
            http.get("/v1/jobs/01234567-89ab-7def-8123-456789abcdef")
            if passed > 0.3 * seconds and not killed:
                killed = True
                subprocess.run(["kill", "-9", *map(str, worker_pids(up))], check=True)
            time.sleep(_EVERY)


def _panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(BOARD.read_text())["panels"] if panel["type"] != "row"]


def _ask(http: httpx.Client, panel: dict[str, Any], began: float) -> Drawn:
    series = []
    for target in panel["targets"]:
        expression = (
            target["expr"]
            .replace("$__rate_interval", f"{_STRETCH}s")
            .replace("$model", ".*")
            .replace("$namespace", ".*")
        )
        stretch = {"start": began, "end": time.time(), "step": _EVERY}
        answer = http.get("/api/v1/query_range", params={"query": expression, **stretch}).json()
        if answer["status"] != "success":
            sys.exit(f"{panel['title']}: {answer['error']}")
        for found in answer["data"]["result"]:
            legend = target["legendFormat"]
            for name, value in found["metric"].items():
                legend = legend.replace("{{" + name + "}}", value.rsplit("/", 1)[-1])
            values = [(float(moment), float(value)) for moment, value in found["values"]]
            # Nothing through nothing is no number, and no point.
            if any(value == value for _, value in values):
                series.append((legend, values))
    return Drawn(panel, series)


def _draw(drawn: list[Drawn], began: float, lasted: float) -> None:
    board = json.loads(BOARD.read_text())["panels"]
    rows = [panel["title"] for panel in board if panel["type"] == "row"]
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board)
    figure = pyplot.figure(figsize=(21, bottom * 0.34), dpi=80, facecolor="#f4f5f5")
    for title in rows:
        y = next(panel["gridPos"]["y"] for panel in board if panel["title"] == title)
        figure.text(0.012, 1 - (y + 0.75) / bottom, title, fontsize=17, weight="bold")
    for one in drawn:
        at = one.panel["gridPos"]
        left, width = at["x"] / 24 + 0.027, at["w"] / 24 - 0.037
        low, height = 1 - (at["y"] + at["h"] - 1.1) / bottom, (at["h"] - 2.2) / bottom
        _draw_panel(figure.add_axes((left, low, width, height)), one, began, lasted)
    figure.savefig(ROOT / "docs" / "dashboard.png")


def _draw_panel(axes: Axes, one: Drawn, began: float, lasted: float) -> None:
    axes.set_title(one.panel["title"], loc="left", fontsize=11)
    if one.panel["type"] == "stat":
        axes.axis("off")
        told = "\n".join(f"{values[-1][1]:g} {legend}" for legend, values in one.series) or "no data"
        size = 20 if len(one.series) < 3 else 13
        axes.text(0.5, 0.5, told, ha="center", va="center", fontsize=size, color="#2f7d32")
        return
    scale, unit = {"bytes": (2**20, "MiB"), "Bps": (2**10, "KiB/s"), "percentunit": (0.01, "%"), "s": (1, "s")}.get(
        one.panel["fieldConfig"]["defaults"]["unit"], (1, "")
    )
    stacked = one.panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
    moments = sorted({moment for _, values in one.series for moment, _ in values})
    lines = [[dict(values).get(moment, float("nan")) / scale for moment in moments] for _, values in one.series]
    at = [moment - began for moment in moments]
    if not one.series:
        axes.text(0.5, 0.5, "no data: no GPU here", ha="center", va="center", transform=axes.transAxes, color="#888888")
    elif stacked:
        axes.stackplot(at, [[0 if v != v else v for v in line] for line in lines], alpha=0.6)
    else:
        for line in lines:
            axes.plot(at, line, linewidth=1.3)
    # A line that does not move would lie on the frame.
    axes.set_ylim(bottom=0, top=1.1 * axes.get_ylim()[1])
    axes.set_xlim(0, lasted)
    axes.yaxis.set_major_formatter(EngFormatter())
    axes.set_ylabel(unit, fontsize=8, labelpad=1)
    axes.tick_params(labelsize=8)
    axes.grid(color="#dddddd", linewidth=0.5)
    if one.series:
        axes.legend([legend for legend, _ in one.series][:9], fontsize=7, loc="upper left", framealpha=0.6)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 180)
    print(f"drawn {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
