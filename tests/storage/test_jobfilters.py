"""Jobs are found again by what they have in common, on both databases."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import update

from storage.contract.errors import InvalidField, InvalidOption, UnknownJob
from storage.contract.ids import new_id
from storage.contract.labels import check_labels
from storage.contract.states import JobState
from storage.database import Database
from storage.jobfilter import JobFilter, checked_page
from storage.moments import moment
from storage.stores import Stores
from storage.tables import JobRow
from tests.storage.builders import OTHER, accept, chunk, new_job, serve, submit

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)

#: Names and values of labels that a path, a pattern or an escape would trip over.
HARD = {'a "quoted" name': "it's 100 %", "mühle": "größe", "a.b": "$.c", "back\\slash": "", "麦": "粉", "n": "1"}


#: What are no labels, and what is said of them.
NO_LABELS: list[tuple[object, str]] = [
    ({"a": 1}, "a label must be a string, not int"),
    ({"a": None}, "a label must be a string, not NoneType"),
    ({"a": {}}, "a label must be a string, not dict"),
    ({None: "a"}, "a label's name must be a string"),
    ({"a\0": "b"}, "a label's name holds a NUL"),
    ({"a": "\ud800"}, "a label"),
    ({"": "b"}, "a label's name has 0 characters"),
    ({"a" * 65: "b"}, "a label's name has 65 characters"),
    ({"a": "b" * 513}, "a label has 513 characters"),
    ({str(number): "" for number in range(17)}, "There are 17 labels"),
    (["a"], "labels must be texts by their names"),
    ("a", "labels must be texts by their names"),
    (7, "labels must be texts by their names"),
]


def labelled(stores: Stores, labels: dict[str, str] | None, name: str | None = None) -> str:
    """Submit a job with labels and a name; return its id."""
    job = new_job(labels=labels, name=name)
    stores.jobs.create(job)
    stores.chunks.append(job.id, [chunk(0)])
    assert stores.jobs.seal(job.id, 2, 1, None, None)
    return job.id


def found(stores: Stores, **wanted: object) -> list[str]:
    return stores.jobs.list_ids(wanted=JobFilter(**wanted))  # type: ignore[arg-type]


def test_labels_are_found_whatever_stands_in_them_and_only_all_of_them_together(stores: Stores) -> None:
    # Given jobs with labels, among them such as a path or a pattern would trip over, and one without
    serve(stores)
    hard, two = labelled(stores, HARD), labelled(stores, {"team": "search", "run": "7"})
    one = labelled(stores, {"team": "search"})
    labelled(stores, None)
    # When they are asked for, then each label finds those that have it
    for name, value in HARD.items():
        assert found(stores, labels={name: value}) == [hard], name
        assert found(stores, labels={name: value + "x"}) == [], name
    assert found(stores, labels=HARD) == [hard]
    # And several of them those that have them all
    assert found(stores, labels={"team": "search"}) == [one, two]
    assert found(stores, labels={"team": "search", "run": "7"}) == [two]
    assert found(stores, labels={"team": "search", "run": "8"}) == found(stores, labels={"TEAM": "search"}) == []
    assert len(found(stores, labels={})) == 4
    # And where a job stands tells them too
    assert stores.statuses.get(hard).labels == HARD
    assert [status.labels for status in stores.statuses.many([one])] == [{"team": "search"}]


def test_a_name_is_the_whole_name(stores: Stores) -> None:
    serve(stores)
    night, nights = labelled(stores, None, "night"), labelled(stores, None, "nights")
    assert (found(stores, name="night"), found(stores, name="nights")) == ([night], [nights])
    assert found(stores, name="n%") == found(stores, name="NIGHT") == []
    assert stores.statuses.get(night).name == "night"
    assert stores.statuses.get(labelled(stores, None)).name is None


def test_times_are_those_of_acceptance_the_first_included_the_last_not(stores: Stores, database: Database) -> None:
    # Given jobs made an hour apart
    serve(stores)
    jobs = [submit(stores) for _ in range(3)]
    with database.write() as connection:
        for hour, job_id in enumerate(jobs):
            made = int((NOON + timedelta(hours=hour)).timestamp() * 1000)
            connection.execute(update(JobRow).where(JobRow.id == job_id).values(created_at=made))
    # When some of the time is asked for, in whatever zone
    hour = timedelta(hours=1)
    elsewhere = (NOON + hour).astimezone(timezone(timedelta(hours=-7)))
    # Then those made from its beginning on are told, up to before its end
    assert found(stores, since=elsewhere) == [jobs[2], jobs[1]]
    assert found(stores, until=NOON + hour) == [jobs[0]]
    assert found(stores, since=NOON, until=NOON + 2 * hour) == [jobs[1], jobs[0]]
    assert found(stores, since=datetime.min.replace(tzinfo=UTC), until=datetime.max.replace(tzinfo=UTC)) == jobs[::-1]


def test_everything_that_is_asked_must_hold_and_pages_go_on(stores: Stores) -> None:
    # Given five jobs of one label, the second of another model, the third cancelled, and one still being submitted
    serve(stores)
    serve(stores, OTHER)
    jobs = [labelled(stores, {"run": "1"}, "night") for _ in range(5)]
    stores.jobs.cancel(jobs[2])
    being = accept(stores)
    # When they are asked for two at a time
    wanted = JobFilter(labels={"run": "1"}, name="night", states=["queued"])
    first = stores.jobs.list_ids(2, wanted=wanted)
    second = stores.jobs.list_ids(2, first[-1], wanted)
    # Then none is missing and none comes twice
    assert (first, second) == ([jobs[4], jobs[3]], [jobs[1], jobs[0]])
    assert found(stores, labels={"run": "1"}, states=["cancelled", "failed"]) == [jobs[2]]
    assert found(stores, states=["accepting"]) == [being]
    assert found(stores, model=OTHER.name) == []


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"states": ["sleeping"]}, "state must be some of accepting, "),
        ({"states": "queued"}, "state must be some of"),
        ({"states": []}, "state must be some of"),
        ({"states": 5}, "state must be some of"),
        ({"states": [["queued"]]}, "state must be some of"),
        ({"since": datetime(2026, 11, 29)}, "since has no time zone"),
        ({"until": datetime(2026, 11, 29)}, "until has no time zone"),
        ({"since": "12h"}, "since must be a datetime, not str"),
        ({"until": NOON.date()}, "until must be a datetime, not date"),
        ({"name": "a\0b"}, "name holds a NUL"),
        ({"name": ""}, "name has 0 characters"),
        ({"name": "n" * 201}, "name has 201 characters"),
        ({"model": 7}, "model must be"),
        ({"model": ""}, "model is empty"),
        *(({"labels": labels}, told) for labels, told in NO_LABELS),
    ],
)
def test_a_filter_that_can_let_nothing_pass_is_refused(wanted: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(told)):
        JobFilter(**wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize(("labels", "told"), NO_LABELS)
def test_labels_that_no_job_can_be_found_by_are_refused_when_it_is_submitted(labels: object, told: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(told)):
        check_labels(labels)


def test_as_many_and_as_long_as_a_name_and_labels_may_be_they_are_found(stores: Stores) -> None:
    serve(stores)
    most = {f"{number:x}" * 64: "粉" * 512 for number in range(16)}
    check_labels(most)
    job_id = labelled(stores, most, "n" * 200)
    assert found(stores, labels=most, name="n" * 200) == [job_id]


def test_what_else_stands_in_a_row_in_place_of_labels_breaks_no_list(stores: Stores, database: Database) -> None:
    # Given jobs whose labels somebody else has written
    serve(stores)
    kept: list[tuple[object, dict[str, str]]] = [
        ({"a": 1, "b": "x", "c": None}, {"b": "x"}),
        (["a"], {}),
        ("a", {}),
        (7, {}),
    ]
    for labels, told in kept:
        job_id = labelled(stores, None)
        with database.write() as connection:
            connection.execute(update(JobRow).where(JobRow.id == job_id).values(labels=labels))
        assert stores.statuses.get(job_id).labels == told
    assert found(stores, labels={"b": "y"}) == []


def test_every_state_may_be_asked_for_once_in_whatever_it_comes() -> None:
    for state in JobState:
        assert JobFilter(states=[state]).states == (state.value,) == JobFilter(states={state.value}).states
    assert JobFilter(states=(one for one in ("queued", "running", "queued"))).states == ("queued", "running")
    with pytest.raises(InvalidField) as refused:
        JobFilter(states=["done"])
    assert refused.value.param == "state"


def test_a_list_has_no_less_than_no_job_and_begins_behind_one() -> None:
    job_id = new_id()
    assert (checked_page(1, job_id.upper()), checked_page(20, None)) == (job_id, None)
    with pytest.raises(InvalidOption, match="at least 0"):
        checked_page(-1, None)
    with pytest.raises(UnknownJob):
        checked_page(1, "")


def test_a_filter_tells_of_a_job_what_the_database_does(stores: Stores, database: Database) -> None:
    # Given a job made at a millisecond
    serve(stores)
    job_id = labelled(stores, {"team": "search"}, "night")
    with database.write() as connection:
        connection.execute(update(JobRow).where(JobRow.id == job_id).values(created_at=1_764_417_600_123))
    made = datetime(2025, 11, 29, 12, 0, 0, 123_000, tzinfo=UTC)
    step = timedelta(microseconds=400)
    # When it is looked at with filters that it passes, and others
    for wanted in (
        {"since": made},
        {"since": made + step},
        {"since": made + 3 * step},
        {"until": made},
        {"until": made + step},
        {"until": made + 3 * step},
        {"name": "night"},
        {"name": "day"},
        {"labels": {"team": "search"}},
        {"labels": {"team": "ads"}},
        {"labels": {"other": ""}},
    ):
        # Then both say the same
        passes = JobFilter(**wanted).passes(stores.statuses.get(job_id))  # type: ignore[arg-type]
        assert passes is (found(stores, **wanted) == [job_id]), wanted


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ("90s", NOON - timedelta(seconds=90)),
        ("1.5h", NOON - timedelta(minutes=90)),
        ("0d", NOON),
        ("2w", NOON - timedelta(days=14)),
        ("2026-11-28", NOON - timedelta(hours=36)),
        ("2026-11-29T11:30", NOON - timedelta(minutes=30)),
        ("2026-11-29T11:30:00Z", NOON - timedelta(minutes=30)),
        ("2026-11-29T11:30+01:00", NOON - timedelta(minutes=90)),
    ],
)
def test_a_time_is_written_as_how_long_ago_or_as_what_it_is(told: str, meant: datetime) -> None:
    assert moment(told, NOON) == meant


@pytest.mark.parametrize("told", ["", "yesterday", "-3h", "3 h", "h", "999999w", "2026-13-01", "٣h", "12:00"])
def test_what_is_no_time_is_refused_with_how_to_write_one(told: str) -> None:
    with pytest.raises(InvalidOption, match="is no time") as refused:
        moment(told, NOON)
    assert "90m" in str(refused.value.remedy)
