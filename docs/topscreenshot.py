"""Draws docs/top.svg, with two workers and jobs of all kinds: PYTHONPATH=. python docs/topscreenshot.py."""

from __future__ import annotations

import io
import random
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from producer.client import Client
from producer.storedoverview import StoredOverviews
from producer.topview import frame
from storage.contract.settings import Settings
from tests.acceptance.shell import Shell, serving, until

_WORDS = ["the", "miller", "grinds", "wheat", "rye", "barley", "and", "oats", "between", "two", "stones"]

_WIDTH, _HEIGHT = 112, 24


def main(target: Path) -> None:
    """Start everything, submit a few jobs and draw what top shows of them.

    Args:
        target: Where the picture goes.
    """
    with tempfile.TemporaryDirectory(prefix="em-") as name:
        place = Path(name)
        shell = Shell(place / "data", place)
        up = serving(shell, "up", "--port", 0, "--data-dir", place / "data", log=place / "log")
        more = serving(shell, "worker", "--health-port", 0, "--data-dir", place / "data", log=place / "more.log")
        with up, more, Client(data_dir=place / "data") as client:
            client.submit(["a text", "", "another"], on_invalid="keep").wait(300)
            client.submit(_texts(200)).wait(300)
            client.submit(_texts(20_000)).cancel()
            jobs = [client.submit(_texts(count)) for count in (30_000, 8_000, 2_000)]
            jobs.append(client.submit(_texts(50), priority="urgent"))
            overviews = StoredOverviews(Settings.load(data_dir=place / "data"))
            until(lambda: min(_busy(overviews)) > 0 and jobs[0].status().succeeded > 3_000, "both workers at work", 600)
            seen = overviews.look(_HEIGHT)
            console = Console(record=True, width=_WIDTH, height=_HEIGHT, file=io.StringIO(), force_terminal=True)
            console.print(frame(seen, "sqlite:////var/lib/embedmill/embedmill.sqlite3", _WIDTH, _HEIGHT))
            console.save_svg(str(target), title="embedmill top")
            for job in jobs:
                if not job.status().is_final:
                    job.cancel()
            overviews.close()


def _busy(overviews: StoredOverviews) -> list[int]:
    workers = overviews.look(1).workers
    return [worker.texts for worker in workers] if len(workers) == 2 else [0]


def _texts(count: int) -> list[str]:
    chance = random.Random(7)
    return [" ".join(chance.choices(_WORDS, k=chance.randint(5, 60))) + f" {number}" for number in range(count)]


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("top.svg")))
