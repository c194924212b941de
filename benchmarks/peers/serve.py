"""The peer's side: makes its program and answers questions until the other side hangs up. Imports nothing of ours."""

from __future__ import annotations

import importlib
import sys
import time
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np


class Matrix(NamedTuple):
    """A float32 matrix on its way between two environments, whose numpys may differ."""

    data: bytes
    shape: tuple[int, ...]


def main() -> None:
    """Answer on the connection whose file descriptor is the first argument."""
    connection = Connection(int(sys.argv[1]))
    try:
        module, folder, options = connection.recv()
        program = importlib.import_module(f"benchmarks.peers.{module}").Program(folder, **options)
        connection.send((True, program.description))
        while True:
            question, arguments = connection.recv()
            start = time.perf_counter()
            answer = getattr(program, question)(*arguments)
            seconds = time.perf_counter() - start
            connection.send((True, (seconds, _plain(answer))))
    except EOFError:
        return
    except BaseException as error:
        connection.send((False, f"{type(error).__name__}: {error}".splitlines()[0][:300]))
        raise


def _plain(answer: Any) -> Any:
    if not isinstance(answer, np.ndarray):
        return answer
    return Matrix(np.ascontiguousarray(answer, np.float32).tobytes(), answer.shape)


if __name__ == "__main__":
    main()
