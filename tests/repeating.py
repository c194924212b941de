"""What goes on beside a test, in threads, until the test has seen enough."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def repeating(*acts: Callable[[], object]) -> Iterator[list[BaseException]]:
    """Do each of these again and again, in a thread of its own, until the block ends; yields what they raised."""
    stopped, raised = threading.Event(), list[BaseException]()

    def repeat(act: Callable[[], object]) -> None:
        while not stopped.is_set() and not raised:
            try:
                act()
            except BaseException as error:
                raised.append(error)

    with ExitStack() as stack:
        for act in acts:
            thread = threading.Thread(target=repeat, args=(act,))
            thread.start()
            stack.callback(thread.join)
        stack.callback(stopped.set)
        yield raised
