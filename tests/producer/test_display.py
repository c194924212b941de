"""Tables that people read, on a terminal as narrow as they come."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from producer.display import jobs_table, one_line, status_table
from producer.keycli import _table
from storage.contract.keeping import Keeping
from storage.keys import KeyRecord
from storage.quotas import Quota
from tests.producer.test_topview import job


def lines(table: Table, width: int = 80) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width).print(table, crop=False)
    return file.getvalue().splitlines()


def test_a_list_of_jobs_tells_the_same_on_eighty_columns() -> None:
    # Given jobs of many texts, in the states of the longest names
    large = {"total": 12_345_678, "succeeded": 12_337_000, "failed": 8_670, "pending": 8}
    jobs = [job(number, state, model="mill/grain-small-v2", **large) for number, state in enumerate(("completed",) * 2)]
    # When they are listed there, then each is one line, whole
    head, *found = lines(jobs_table(jobs, narrow=True))
    assert head.split() == ["job", "state", "done", "failed", "model"]
    assert [line.split()[:4] for line in found] == [[one.id, "completed", "12.3M/12.3M", "8.7k"] for one in jobs]
    assert all(line.split()[4].startswith("grain-sm") for line in found)
    # And where there is room all of it is told
    assert lines(jobs_table(jobs), 120)[1].split()[2:] == [
        "12,345,670/12,345,678",
        "8,670",
        "01-01",
        "12:00",
        "mill/grain-small-v2",
    ]


def test_names_stand_in_a_list_where_there_are_any_and_cannot_write_elsewhere() -> None:
    named = job(1, name="harvest \x1b[31m\nof 2026"), job(2)
    head, first, second = lines(jobs_table(named), 140)
    assert head.split()[-2:] == ["name", "model"] and "harvest" in first and "\x1b" not in first
    assert second.split()[-2:] == ["12:00", "mill/grain"]
    told = "\n".join(lines(status_table(job(1, name="\x1b]0;x\x07", labels={"a": "b\r"})), 140))
    assert "\x1b" not in told and "\x07" not in told and "\r" not in told
    assert "labels" in told and "a=b" in told
    assert "labels" not in "\n".join(lines(status_table(job(2)), 140))


@pytest.mark.parametrize(("width", "narrow"), [(70, True), (80, True), (110, False), (140, False)])
def test_a_name_takes_no_room_from_states_and_numbers(width: int, narrow: bool) -> None:
    jobs = [job(number, "cancelled", name="harvest of 2026, the second field", failed=17) for number in range(2)]
    head, line, _ = lines(jobs_table(jobs, narrow), width)
    assert head.split()[:4] == ["job", "state", "done", "failed"] and len(line) <= width
    assert line.split()[:4] == [jobs[0].id, "cancelled", "400/1.0k" if narrow else "400/1,000", "17"]
    assert "harv" in line or width == 70


def test_nothing_that_is_told_of_a_job_writes_elsewhere_on_a_terminal() -> None:
    escape = "\x1b[2J"
    one = job(1, model=escape, waiting_for=escape, tokens_per_second=None, error={"code": "x", "message": escape})
    told = [*lines(status_table(one), 140), *lines(jobs_table([one]), 140), one_line(one)]
    assert "\x1b" not in "\n".join(told) and sum("[2J" in line for line in told) >= 4


def test_statuses_can_be_put_into_a_set() -> None:
    assert len({job(1, labels={"a": "b"}), job(1, labels={"a": "b"}), job(2)}) == 2


def test_a_list_of_keys_is_not_cut_on_eighty_columns() -> None:
    scopes = frozenset({"read", "write", "embed", "admin"})
    quota, keeping = Quota(1_000_000, 5_000, 100_000, 10_000_000_000), Keeping(30, 7)
    record = KeyRecord("a1b2c3d4e5f6a7b8", "harvest", scopes, quota, 0, None, None, 0, keeping, 0)
    told = lines(_table([record]))
    assert not any("…" in line or len(line) > 80 for line in told)
    words = " ".join(told).split()
    for word in (*scopes, "1,000,000", "5,000", "100,000", "10,000,000,000", "30"):
        assert any(word in one for one in words), word
