"""The peer's side: makes its program and answers questions until the other side hangs up; nothing here is Embedmill."""

from __future__ import annotations

import importlib
import sys
import time
from multiprocessing.connection import Connection

import numpy as np

from benchmarks.peers.matrix import Matrix


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
            answer = Matrix.of(answer) if isinstance(answer, np.ndarray) else answer
            connection.send((True, (seconds, answer)))
    except EOFError:
        return
    except BaseException as error:
        connection.send((False, f"{type(error).__name__}: {error}".splitlines()[0][:300]))
        raise


if __name__ == "__main__":
    main()
