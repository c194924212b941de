"""A peer: a program that makes vectors of texts, in a process of its own, stopped while it is not asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from multiprocessing import Pipe
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.peers.matrix import Matrix

_ROOT = Path(__file__).resolve().parents[2]

_END_TIMEOUT = 20.0

#: Lines of a peer's own words that are shown when it fails.
_LAST_LINES = 3


class PeerMissing(Exception):
    """Raised when a peer does not start: it is not installed, or refuses the model; says why in one line."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to start a peer.

    Args:
        name: What results call it.
        program: Module of `benchmarks.peers` whose `Program` is run.
        options: What its `Program` is made with, beside the model's folder.
        python: The interpreter; one of another environment where the peer needs one.
        environment: Variables besides those of this process.
    """

    name: str
    program: str
    options: dict[str, Any] = field(default_factory=dict)
    python: Path = Path(sys.executable)
    environment: dict[str, str] = field(default_factory=dict)


class Peer:
    """A running peer; a context manager, whose process lives as long as the block.

    Args:
        recipe: How to start it.
        folder: The model's folder.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.name = recipe.name
        self._recipe = recipe
        self._folder = folder
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the peer ends

    def __enter__(self) -> Peer:
        if not self._recipe.python.exists():
            raise PeerMissing(f"{self._recipe.python.parent.parent.name} has not been made")
        self._connection, theirs = Pipe()
        command = [self._recipe.python, "-m", "benchmarks.peers.serve", str(theirs.fileno())]
        self._process = subprocess.Popen(
            [str(word) for word in command],
            cwd=_ROOT,
            env=os.environ | {"TQDM_DISABLE": "1"} | self._recipe.environment,
            pass_fds=[theirs.fileno()],
            stdout=self._log,
            stderr=self._log,
        )
        theirs.close()
        try:
            self._connection.send((self._recipe.program, str(self._folder), self._recipe.options))
            self.description: dict[str, Any] = self._received()
        except BaseException:
            self._end()
            raise
        self._pause()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def ask(self, question: str, *arguments: Any) -> tuple[float, Any]:
        """Have it call a method of its program.

        Args:
            question: The method's name.
            *arguments: What it is called with.

        Returns:
            Seconds it took by the peer's own clock, and what came of it; a matrix is float32.

        Raises:
            PeerMissing: When it fails.
        """
        os.kill(self.pid, signal.SIGCONT)
        try:
            self._connection.send((question, arguments))
            seconds, answer = self._received()
        except OSError as error:
            raise PeerMissing(self._last_words()) from error
        finally:
            self._pause()
        return seconds, answer.array() if isinstance(answer, Matrix) else answer

    def _received(self) -> Any:
        try:
            well, answer = self._connection.recv()
        except (EOFError, ConnectionResetError):
            well, answer = False, self._last_words()
        if not well:
            raise PeerMissing(answer)
        return answer

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return " / ".join(lines[-_LAST_LINES:]) or "it ended without a word"

    def _pause(self) -> None:
        if self._process.poll() is None:
            os.kill(self.pid, signal.SIGSTOP)

    def _end(self) -> None:
        self._connection.close()  # which it takes for the end
        if self._process.poll() is None:
            os.kill(self.pid, signal.SIGCONT)
        try:
            self._process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
