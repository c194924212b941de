"""Named places where a test makes a process fail; nothing happens there unless the environment of its start says so.

The tests put a file `NAME.ACTION` into the folder that `EMBEDMILL_FAILPOINTS` names; the first process that reaches
the place takes the file and acts, once. No message, request or setting can switch one on.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from storage.contract.errors import StorageUnavailable

#: The environment variable that names the folder.
VARIABLE = "EMBEDMILL_FAILPOINTS"

#: Every place, in the order in which one text passes them; those of the reconciler and the supervisor come last.
NAMES = (
    "submit.appended",  # a transaction of chunks is committed
    "submit.sealing",  # inside the transaction that seals
    "submit.sealed",  # the job is accepted, nothing is sent
    "dispatch.marking",  # inside the transaction that marks chunks as sent
    "dispatch.marked",  # marked, not sent
    "dispatch.sent",  # sent
    "message.taken",  # a task has a message and has claimed nothing
    "claim.writing",  # inside the transaction that claims
    "claim.committed",  # claimed, the worker does not know it yet
    "embed.begin",  # the texts are read
    "embed.end",  # the vectors are there
    "commit.guarded",  # inside the transaction that commits, the token is checked
    "commit.written",  # inside it, the vectors are written
    "commit.committed",  # committed, the worker does not know it yet
    "ack",  # all is done, the message is not acknowledged
    "heartbeat.writing",  # inside the transaction that extends leases
    "release.writing",  # inside the transaction that gives back what a dead process held
    "reconcile.begin",  # before a sweep
    "reconcile.expired",  # after each of its duties
    "reconcile.recovered",
    "reconcile.dispatched",
    "reconcile.finished",
)

#: Places that only a job of very many chunks passes: between two transactions of its end, or of a retry of it.
OF_LARGE_JOBS = ("end.begun", "retry.begun")


class FailpointReached(RuntimeError):
    """Raised where a test asked for an error nobody expects."""


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop() -> None:
    # The whole process, heartbeats too, as when a machine is paused; the test continues it with SIGCONT.
    os.kill(os.getpid(), signal.SIGSTOP)


def _raise() -> None:
    raise FailpointReached("a test asked for an error here")


def _fail() -> None:
    raise StorageUnavailable("The database does not answer: a test asked for that.")


_ACTIONS: dict[str, Callable[[], None]] = {"kill": _kill, "stop": _stop, "raise": _raise, "fail": _fail}


def _nothing(name: str) -> None:
    """Do nothing: there are no failpoints in production."""


def _look(name: str) -> None:
    """Take the first file that asks for something here, and do it."""
    for action, act in _ACTIONS.items():
        wanted = _folder / f"{name}.{action}"
        try:
            # Of several processes exactly one succeeds.
            wanted.rename(wanted.with_name(f"{wanted.name}.fired.{os.getpid()}"))
        except FileNotFoundError:
            continue
        act()


_folder = Path(os.environ.get(VARIABLE, ""))

#: Called at each place with its name.
reach: Callable[[str], None] = _look if os.environ.get(VARIABLE) else _nothing
