"""The message: a pointer, and whatever else arrives is dropped."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.contract.ids import new_id
from storage.contract.messages import Pointer

JOB = "0198c0de-0000-7000-8000-000000000000"
GOOD = {"v": 1, "job_id": JOB, "chunk": 7}
ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


def test_a_pointer_travels_as_the_agreed_json_object() -> None:
    assert Pointer(JOB, 7).to_message() == GOOD
    assert Pointer.from_message(json.loads(json.dumps(GOOD))) == Pointer(JOB, 7)


def test_every_pointer_comes_back() -> None:
    for chunk in (0, 1, 2**31, 2**63 - 1):
        pointer = Pointer(new_id(), chunk)
        assert Pointer.from_message(pointer.to_message()) == pointer


def test_fields_of_later_versions_are_not_in_the_way() -> None:
    assert Pointer.from_message(GOOD | {"trace": "x"}) == Pointer(JOB, 7)


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"v": None},
        {"v": "1"},
        {"job_id": None},
        {"job_id": 7},
        {"job_id": "not-a-job"},
        {"job_id": JOB.upper()},
        {"chunk": None},
        {"chunk": "7"},
        {"chunk": 7.0},
        {"chunk": True},
        {"chunk": -1},
        {"chunk": 2**63},
    ],
    ids=str,
)
def test_a_message_of_an_unknown_version_or_shape_is_dropped(change: dict[str, Any]) -> None:
    assert Pointer.from_message(GOOD | change) is None


@pytest.mark.parametrize("missing", ["v", "job_id", "chunk"])
def test_a_message_that_lacks_a_field_is_dropped(missing: str) -> None:
    assert Pointer.from_message({name: value for name, value in GOOD.items() if name != missing}) is None


@given(st.dictionaries(st.sampled_from(["v", "job_id", "chunk", "x"]), ANYTHING))
def test_no_message_however_forged_raises(message: dict[str, Any]) -> None:
    assert Pointer.from_message(message) is None
