"""What keeps an overview fresh goes on, whatever is answered."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable

from rich.console import Console

from producer.overview import Overview
from producer.toplive import _Looker
from tests.acceptance.shell import until


class _Answers:
    """Answers what each of some functions returns, the last one again and again."""

    where = "a service"

    def __init__(self, *answers: Callable[[], Overview]) -> None:
        self._answers = list(answers)

    def look(self, jobs: int) -> Overview:
        return (self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])()

    def close(self) -> None:
        pass


def test_an_answer_that_cannot_be_read_is_told_and_the_next_one_is_shown() -> None:
    # Given a service in whose place something else answers for a while
    before, after = (Overview([], [], [], 0.0, at) for at in (1.0, 2.0))
    told = threading.Event()
    answers = _Answers(lambda: before, lambda: after if told.is_set() else json.loads("<html>"))
    looker = _Looker(answers, 0.02, Console(file=io.StringIO()))
    looker.first()
    # When it is looked at again and again, then that is told
    looker.start()
    until(lambda: "cannot be read (JSONDecodeError)" in (looker.notice(False) or ""), "the failure to be told")
    # And what comes afterwards is shown
    told.set()
    until(lambda: looker.latest is after and looker.notice(False) is None, "the next overview")
    looker.hold(True)
