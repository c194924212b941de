"""Job ids: canonical UUIDv7, in the order in which they were made."""

import time
import uuid

import pytest

from storage.contract.errors import UnknownJob
from storage.contract.ids import checked_job_id, is_id, new_id


def test_ids_are_canonical_uuids_of_version_7() -> None:
    for _ in range(200):
        made = new_id()
        parsed = uuid.UUID(made)
        assert str(parsed) == made
        assert parsed.variant == uuid.RFC_4122 and made[14] == "7"


def test_an_id_holds_the_millisecond_it_was_made_in() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(new_id())
    after = time.time_ns() // 1_000_000
    assert before <= made.int >> 80 <= after


def test_ids_sort_by_the_time_they_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for milliseconds in (0, 1, 1_700_000_000_000, 1_700_000_000_001, 2**48 - 1):
        monkeypatch.setattr(time, "time_ns", lambda now=milliseconds: now * 1_000_000)
        made.append(new_id())
    assert made == sorted(made) and len(set(made)) == 5


def test_ids_of_one_millisecond_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)
    assert len({new_id() for _ in range(1000)}) == 1000


def test_blanks_and_capitals_around_an_id_are_forgiven() -> None:
    made = new_id()
    assert checked_job_id(f"  {made.upper()}\n") == made


@pytest.mark.parametrize(
    "text",
    [
        "",
        "job-1",
        "0198c0de-0000-4000-8000-000000000000",  # version 4
        "0198c0de-0000-7000-c000-000000000000",  # another variant
        "0198c0de00007000800000000000000",
        "0198c0de-0000-7000-8000-0000000000000",
        "{0198c0de-0000-7000-8000-000000000000}",
        "0198c0de-0000-7000-8000-00000000000g",
        "0198c0de-0000-7000-8000-000000000000\n; DROP TABLE jobs",
        "٠198c0de-0000-7000-8000-000000000000",  # an Arabic digit
    ],
)
def test_what_can_be_no_jobs_id_is_an_unknown_job(text: str) -> None:
    assert not is_id(text)
    with pytest.raises(UnknownJob):
        checked_job_id(text)


def test_a_long_malformed_id_is_not_repeated_whole() -> None:
    with pytest.raises(UnknownJob) as caught:
        checked_job_id("x" * 10_000)
    assert len(str(caught.value)) < 300
