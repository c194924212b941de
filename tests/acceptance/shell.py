"""The command line as a user types it: real processes, in a folder of their own, without this machine's settings."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

BIN = Path(sys.executable).parent
EMBEDMILL = str(BIN / "embedmill")
ROOT = Path(__file__).resolve().parents[2]

#: Longest time of one command, of a start and of a stop, in seconds; all take far less.
_COMMAND, _START, _STOP = 200, 240, 60

_JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command left behind: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def job_id(self) -> str:
        """The job id that was printed: alone on stdout."""
        assert self.out.endswith("\n") and _JOB_ID.fullmatch(self.out[:-1]), self
        return self.out[:-1]

    @property
    def data(self) -> Any:
        """What was printed as JSON."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Shell:
    """A shell whose commands work on one data folder.

    Args:
        data_dir: What EMBEDMILL_DATA_DIR names.
        cwd: Where commands are typed, and where their files lie.
        variables: Further variables, or others in place of those that leave nothing to be measured at a start.
    """

    data_dir: Path
    cwd: Path
    variables: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Return the environment: this process's, without Embedmill's variables and whatever changes the output."""
        noise = ("EMBEDMILL_", "COLUMNS", "LINES", "FORCE_COLOR", "TERM", "GITHUB_ACTIONS", "PYTHONPATH", "COV_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(noise)}
        place = {"EMBEDMILL_DATA_DIR": str(self.data_dir), "HF_HUB_OFFLINE": "1"}
        measured = {"EMBEDMILL_DTYPE": "float32", "EMBEDMILL_TOKEN_BUDGET": "1024"}
        return kept | place | measured | self.variables

    def __call__(self, *words: object, stdin: bytes = b"") -> Ran:
        """Type `embedmill` and these words."""
        return self.program(EMBEDMILL, *words, stdin=stdin)

    def program(self, *words: object, stdin: bytes = b"", cwd: Path | None = None) -> Ran:
        """Type any command."""
        ran = subprocess.run(
            [str(word) for word in words],
            input=stdin,
            capture_output=True,
            cwd=cwd or self.cwd,
            env=self.environment(),
            timeout=_COMMAND,
        )
        return Ran(ran.returncode, ran.stdout.decode(), ran.stderr.decode())

    def together(self, commands: Sequence[Sequence[object]]) -> list[Ran]:
        """Type several commands in two windows; nothing of one may depend on another."""
        words = json.dumps([[str(word) for word in command] for command in commands])
        with tempfile.TemporaryDirectory(prefix="em-") as name:
            typist = [sys.executable, "-P", str(ROOT / "tests/acceptance/typist.py"), name]
            ran = self.program(*typist, stdin=words.encode())
            assert (ran.code, ran.err) == (0, ""), ran
            said = [[Path(name, f"{number}.{end}") for end in ("out", "err")] for number in range(len(commands))]
            return [
                Ran(code, *(path.read_bytes().decode() for path in paths))
                for code, paths in zip(ran.data, said, strict=True)
            ]

    def start(self, *words: object, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command and leave it running."""
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        # A run in the background of a script ignores Ctrl-C, and hands that down; a person's terminal does not.
        pipes["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
        return subprocess.Popen(
            [EMBEDMILL, *(str(word) for word in words)], cwd=self.cwd, env=self.environment(), **(pipes | options)
        )

    def write(self, name: str, content: str | bytes | Sequence[object]) -> Path:
        """Write a file in this shell's folder: bytes, a text, or objects as JSON lines."""
        path = self.cwd / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_bytes(content.encode())
        else:
            path.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in content))
        return path

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Look into the embedded database."""
        with closing(sqlite3.connect(self.data_dir / "embedmill.sqlite3", timeout=30)) as connection:
            return connection.execute(statement, values).fetchall()

    def rows(self) -> tuple[int, ...]:
        """Return how many jobs, chunks and inputs the embedded database holds, half-written ones too."""
        if not (self.data_dir / "embedmill.sqlite3").exists():
            return (0, 0, 0)
        return tuple(self.query(f"SELECT count(*) FROM {table}")[0][0] for table in ("jobs", "chunks", "inputs"))


@contextmanager
def serving(shell: Shell, *words: object, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `up` or `worker` until the end of the block, from when it is ready; then no process of it may be left.

    Args:
        shell: Where it is typed.
        words: The command; its address of `/readyz` is read off what it prints.
        log: File of what it prints.
    """
    with log.open("wb") as output:
        process = shell.start(*words, stdout=output, stderr=output)
    family: list[psutil.Process] = []
    try:
        until(lambda: _is_ready(process, log), f"{words} to be ready", _START)
        yield process
        family = psutil.Process(process.pid).children(recursive=True)
        assert family, "it runs without children"
        process.send_signal(signal.SIGTERM)
        assert process.wait(_STOP) == 0, log.read_text()
        _, left = psutil.wait_procs(family, timeout=30)
        assert not left, f"left behind: {left}"
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def address(log: Path) -> str:
    """Return where a running command says that it answers, without the path."""
    found = re.search(r"(http://[^ ]+)/readyz", log.read_text())
    assert found, log.read_text()
    return found[1]


def get(url: str) -> tuple[int, Any]:
    """Return status and body, as JSON, of an address."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def until(holds: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait until something holds.

    Raises:
        AssertionError: When it does not for so long.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def interrupt(process: subprocess.Popen[bytes]) -> Ran:
    """Press Ctrl-C and return what the command left behind."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=_COMMAND)
    return Ran(process.returncode, out.decode(), err.decode())


def _is_ready(process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    if "/readyz" not in log.read_text():
        return False
    try:
        return get(f"{address(log)}/readyz")[0] == 200
    except OSError:
        # Not yet, or not now: it may be starting again.
        return False
