"""The whole program at work on this machine: start the stack, embed `sentences.jsonl`, show what came of it, stop.

Uses only what a user has: the `embedmill` command and the Python client. Leaves its files in `demo-output/`, and takes
no setting of the surrounding shell, so that it never reaches anybody's real queue or database.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from embedmill import Client, JobStatus

SENTENCES = Path(__file__).resolve().parent / "sentences.jsonl"
OUTPUT = SENTENCES.parents[1] / "demo-output"
LOG = OUTPUT / "stack.log"

#: Seconds until the stack must be ready; a cold disk needs most of it for loading torch, measuring may take twenty.
READY_TIMEOUT = 180
#: Seconds the stack has for a clean stop before it is killed.
STOP_TIMEOUT = 30
#: Rows of the table of similar pairs, for each language.
PAIRS = 6

console = Console(highlight=False)


def main() -> int:
    """Run the demo; return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    environment = prepare()
    port = free_port()
    with stack(environment, port) as process:
        with console.status("Starting Redis, the database and one worker, which measures this machine once ..."):
            wait_until_ready(process, port)
        job_id = command(environment, "submit", str(SENTENCES), "--id-field", "id", "--on-invalid", "keep").strip()
        console.print(f"[bold]job {job_id}[/bold]")
        with Client() as client:
            watch(client, job_id)
            oddities = describe_oddities(client, job_id)
        status = json.loads(command(environment, "status", job_id, "--json"))
        show_counts(status)
        console.print(*oddities, sep="\n")
        for name in ("vectors.npy", "vectors.parquet"):
            command(environment, "results", job_id, "-o", str(OUTPUT / name))
        texts = [json.loads(line)["text"] for line in SENTENCES.read_text(encoding="utf-8").splitlines()]
    show_pairs(texts, np.load(OUTPUT / "vectors.npy"))
    console.print(f"\nThe vectors lie in {shown(OUTPUT / 'vectors.npy')} and {shown(OUTPUT / 'vectors.parquet')}.")
    return 0


def prepare() -> dict[str, str]:
    """Empty the output folder, go there, and return an environment without anybody's own settings."""
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir(parents=True)
    os.chdir(OUTPUT)  # a `.env` is read from where one stands
    for name in [name for name in os.environ if name.startswith("EMBEDMILL_")]:
        del os.environ[name]
    os.environ["EMBEDMILL_DATA_DIR"] = str(OUTPUT / "data")
    return dict(os.environ)


def free_port() -> int:
    """Return a TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def stack(environment: dict[str, str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run `embedmill up` as a child and stop it, with all that it started, whatever happens."""
    show_command("up")
    arguments = [sys.executable, "-m", "embedmill", "up", "--port", str(port)]
    with LOG.open("wb") as log:
        # A session of its own, so that Ctrl-C reaches this program alone, which then stops the stack in order.
        process = subprocess.Popen(
            arguments, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        with console.status("Stopping everything ..."):
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the stack to stop, and kill its whole session when it does not."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        console.print(f"The stack did not stop within {STOP_TIMEOUT} s and was killed.")
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    """Return when storage answers and a worker is warm; leave the demo when the stack ends first or takes too long."""
    deadline = time.monotonic() + READY_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            fail(f"The stack ended with exit code {process.returncode}.")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    fail(f"The stack was not ready within {READY_TIMEOUT} s.")


def fail(reason: str) -> None:
    """Show why, with the end of the stack's log, and leave."""
    console.print(f"[red]{reason}[/red] The end of {shown(LOG)}:")
    console.print(LOG.read_text(encoding="utf-8", errors="replace")[-2000:], markup=False)
    sys.exit(1)


def command(environment: dict[str, str], *arguments: str) -> str:
    """Show and run one `embedmill` command, and return what it printed on stdout."""
    show_command(*arguments)
    finished = subprocess.run(
        [sys.executable, "-m", "embedmill", *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if finished.returncode > 1:  # 1 says that the job has failed items, and the blank text is meant to be one
        fail(f"embedmill {arguments[0]} ended with exit code {finished.returncode}.")
    return finished.stdout


def show_command(*arguments: str) -> None:
    """Show a command as a user would type it at the top of the repository."""
    words = [shown(Path(word)) if os.path.isabs(word) else word for word in arguments]
    console.print(f"[dim]$ embedmill {' '.join(words)}[/dim]", soft_wrap=True)


def watch(client: Client, job_id: str) -> None:
    """Show a live bar until the job ends."""
    columns = (SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("queued", total=None)

        def advance(status: JobStatus) -> None:
            done = status.total - status.pending
            speed = f"{status.tokens_per_second:,.0f} tokens/s" if status.tokens_per_second else ""
            progress.update(bar, total=status.total, completed=done, description=f"{status.state} {speed}")

        client.job(job_id).wait(progress=advance)


def show_counts(status: dict[str, object]) -> None:
    """Print what became of the items, in one line."""
    counts = ", ".join(f"{status[name]} {name}" for name in ("total", "succeeded", "failed", "truncated"))
    speed = status["tokens_per_second"]
    pace = f"{speed:,.0f} tokens/s" if isinstance(speed, int | float) else "too short a run to tell tokens/s"
    console.print(
        f"{status['state']}: {counts}; {status['tokens']} tokens, {pace}, with {status['model']}", soft_wrap=True
    )


def describe_oddities(client: Client, job_id: str) -> list[str]:
    """Return a line for every item that was cut or has no vector: nothing is cut or lost silently."""
    lines = []
    for outcome in client.job(job_id).results():
        if outcome.truncated:
            lines.append(f"  [yellow]cut[/yellow]     {outcome.id}: only its first {outcome.tokens} tokens were read")
        if outcome.error is not None:
            lines.append(f"  [red]failed[/red]  {outcome.id}: {outcome.error.code}: {escape(outcome.error.message)}")
    return lines


def show_pairs(texts: list[str], vectors: NDArray[np.floating]) -> None:
    """Print the pairs of texts whose vectors point most nearly the same way, Chinese and other texts apart.

    Args:
        texts: As many as there are vectors, in the same order.
        vectors: Shape (items, width), NaN in the row of an item without a vector.
    """
    table = Table(
        title="Most similar pairs", title_justify="left", title_style="bold", box=None, pad_edge=False, expand=True
    )
    table.add_column("cosine", style="green", width=6)
    table.add_column("text", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("its neighbour", ratio=1, no_wrap=True, overflow="ellipsis")
    chinese = np.array([any("\u4e00" <= letter <= "\u9fff" for letter in text) for text in texts])
    for group in (~chinese, chinese):
        rows = np.flatnonzero(group & ~np.isnan(vectors[:, 0]))
        for similarity, left, right in nearest(vectors[rows].astype(np.float32)):
            table.add_row(f"{similarity:.3f}", texts[rows[left]], texts[rows[right]])
    console.print()
    console.print(table)


def nearest(vectors: NDArray[np.float32]) -> list[tuple[float, int, int]]:
    """Return the most similar pairs of rows, best first, as (cosine, row, other row).

    Args:
        vectors: Shape (rows, width); none of them zero.
    """
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = directions @ directions.T
    left, right = np.triu_indices(len(vectors), k=1)
    best = np.argsort(-cosines[left, right])[:PAIRS]
    return [(float(cosines[left[i], right[i]]), int(left[i]), int(right[i])) for i in best]


def shown(path: Path) -> str:
    """Return `path` as seen from the top of the repository."""
    return str(path.relative_to(OUTPUT.parent))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        console.print("Interrupted; everything is stopped.")
        sys.exit(130)
