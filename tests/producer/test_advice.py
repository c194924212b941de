"""Commands that are advised, and what is said of jobs that have ended."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from producer.advice import command, remember_place
from producer.jobwords import tell_unwritten
from tests.producer.test_topview import job


@pytest.fixture(autouse=True)
def nowhere() -> None:
    """No place is remembered of another test."""
    remember_place({})


def test_the_place_that_was_named_is_advised_too() -> None:
    assert command("wait", "J") == "embedmill wait J"
    remember_place({"data_dir": Path("/srv/my mill"), "url": None, "redis_url": "redis://r"})
    assert shlex.split(command("wait", "J")) == ["embedmill", "wait", "J", "--data-dir", "/srv/my mill"]
    remember_place({"url": "http://mill:8000/x"})
    assert command("wait", "J") == "embedmill wait J --url http://mill:8000/x"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://miller:grindstone@host/mill", "postgresql://miller:***@host/mill"),
        ("postgresql://miller:grind@stone@host/mill", "postgresql://miller:***@host/mill"),
        ("postgresql://miller:grind/stone@host/mill", "postgresql://miller:***@host/mill"),
        (
            "postgresql://host/mill?user=miller&password=grindstone&x=1",
            "postgresql://host/mill?user=miller&password=***&x=1",
        ),
        ("postgresql://miller@host:5432/mill", "postgresql://miller@host:5432/mill"),
        ("sqlite:////srv/mill.sqlite3", "sqlite:////srv/mill.sqlite3"),
        ("http://miller:grindstone@host:8000", "http://miller:***@host:8000"),
    ],
)
def test_a_password_is_never_advised(url: str, told: str) -> None:
    remember_place({"database_url": url})
    assert shlex.split(command("jobs"))[-1] == told


@pytest.mark.parametrize("state", ["cancelled", "expired"])
def test_what_a_job_had_done_before_it_was_ended_can_be_had(state: str, capsys: pytest.CaptureFixture[str]) -> None:
    # Given a job of ten items that was ended after four, when nothing is written, then it is said how to get them
    ended = job(1, state, total=10, succeeded=4, pending=0)
    tell_unwritten(ended, Path("out.npy"), None)
    told = capsys.readouterr().err
    assert f"ended as {state}: nothing was written" in told
    assert f"4 items were done: embedmill results {ended.id} -o out.npy\n" in told
    # And of one that had done none, nothing is promised
    tell_unwritten(job(2, state, total=10, succeeded=0, pending=0), Path("out.npy"), None)
    assert "results" not in capsys.readouterr().err
