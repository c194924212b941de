"""Types several commands, each in a process of its own; only loading the program is done once for all of them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import NoReturn

from worker.parent import die_with_parent

#: Commands that run at the same time.
_WINDOWS = 2


def main(folder: Path) -> None:
    """Run the commands that stand on stdin as JSON; print their exit codes, and leave what they said in a folder.

    Args:
        folder: Gets the files `0.out`, `0.err`, `1.out` and so on.
    """
    import embedmill.cli
    import producer.client  # noqa: F401 - what nearly every command loads when it runs

    embedmill.cli._app()
    commands = json.load(sys.stdin)
    running: dict[int, int] = {}
    codes: dict[int, int] = {}
    for number, words in enumerate(commands):
        if len(running) == _WINDOWS:
            _wait(running, codes)
        pid = os.fork()
        if pid == 0:
            _run(words, folder / f"{number}.out", folder / f"{number}.err")
        running[pid] = number
    while running:
        _wait(running, codes)
    print(json.dumps([codes[number] for number in range(len(commands))]))


def _wait(running: dict[int, int], codes: dict[int, int]) -> None:
    pid, status = os.wait()
    codes[running.pop(pid)] = os.waitstatus_to_exitcode(status)


def _run(words: list[str], out: Path, err: Path) -> NoReturn:
    """Be the command."""
    import embedmill.cli

    for stream, descriptor in ((os.devnull, 0), (out, 1), (err, 2)):
        opened = os.open(stream, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    die_with_parent()
    sys.argv = ["embedmill", *words]
    embedmill.cli.main()
    sys.exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
