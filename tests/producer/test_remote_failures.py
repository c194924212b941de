"""Errors go over HTTP and come back as what they were: class, words, remedy and whatever else they hold."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from producer.api.errors import answer
from producer.remote.failures import failure_of
from storage.contract import errors
from storage.contract.errors import EmbedmillError, InvalidItems, LimitError, MissingExtra, Problem, UnknownJob


def _classes(kind: type[EmbedmillError]) -> Iterator[type[EmbedmillError]]:
    for narrower in kind.__subclasses__():
        if vars(errors).get(narrower.__name__) is narrower:
            yield narrower
            yield from _classes(narrower)


def _made(kind: type[EmbedmillError]) -> EmbedmillError:
    made: dict[type[EmbedmillError], EmbedmillError] = {
        InvalidItems: InvalidItems([Problem(3, "line 4", "the text is blank"), Problem(9, "line 10", "...")], 12),
        UnknownJob: UnknownJob("018f"),
        MissingExtra: MissingExtra("Arrow", "arrow"),
    }
    if kind in made:
        return made[kind]
    if issubclass(kind, LimitError | errors.ModelUnavailable):
        return kind("The shelf is full.", "Take something off it.", retry_after=7)
    return kind("The shelf is crooked.", "Hang it anew.")


def _over_http(error: EmbedmillError) -> EmbedmillError:
    sent = answer(error)
    response = httpx.Response(
        sent.status_code, headers=dict(sent.headers), content=bytes(sent.body), request=httpx.Request("GET", "http://h")
    )
    return failure_of(response)


def test_the_tree_as_it_is_drawn_is_what_the_module_has_and_what_goes_over_http() -> None:
    # Given the tree in words
    drawn = set(re.findall(r"── (\w+)", str(errors.__doc__)))
    # Then those are the names of the module, beside the root and the part of one, and the kinds that come back
    assert drawn == set(errors.__all__) - {"EmbedmillError", "Problem"}
    assert drawn == {kind.__name__ for kind in _classes(EmbedmillError)}


@pytest.mark.parametrize("kind", sorted(set(_classes(EmbedmillError)), key=lambda kind: kind.__name__))
def test_every_error_comes_back_as_what_it_was(kind: type[EmbedmillError]) -> None:
    # Given an error of the service
    error = _made(kind)
    # When it is answered over HTTP and read on the other side
    back = _over_http(error)
    # Then it is of the same class, or the widest of the same code, in the same words
    assert type(back) is next(one for one in reversed(kind.__mro__) if getattr(one, "code", None) == kind.code)
    assert (str(back), back.message, back.remedy) == (str(error), error.message, error.remedy)
    if isinstance(error, LimitError | errors.ModelUnavailable):
        assert getattr(back, "retry_after", None) == error.retry_after == 7
    if isinstance(error, InvalidItems) and isinstance(back, InvalidItems):
        assert (back.problems, back.count) == (error.problems, 12)


def test_an_error_without_a_remedy_keeps_its_words() -> None:
    back = _over_http(errors.WrongState("The job is running."))
    assert (back.message, back.remedy) == ("The job is running.", None)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.Unauthorized),
        (404, errors.NotFound),
        (413, errors.TooLarge),
        (418, errors.InvalidOption),
        (429, errors.Overloaded),
        (502, errors.ServiceUnavailable),
        (500, errors.ServerError),
    ],
)
def test_the_words_of_what_stands_between_become_an_error_that_names_the_address(
    status: int, kind: type[EmbedmillError]
) -> None:
    page = httpx.Response(
        status, text="<html>nginx</html>", request=httpx.Request("GET", "http://user:pass@host:8000/v1")
    )
    error = failure_of(page)
    assert type(error) is kind
    assert "http://host:8000" in str(error) and "pass" not in str(error)
