"""What is wrong with a request's form is said in words of JSON."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from producer.api.invalid import place, sentence
from producer.api.schemas import JobIn


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"poling": "cls"}, "poling: there is no such field here."),
        ({"name": "\0"}, "name: it holds a NUL character."),
        ({"name": "\ud800"}, "name: it holds a lone surrogate."),
        ({"webhook": True}, "webhook: it is no JSON object."),
        ({"webhook": {}}, "webhook.url: it is missing."),
        ({"items": ["rye"]}, "items.0: it is no JSON object."),
        ({"texts": "rye"}, "texts: it is no JSON list."),
        ({"layer": "x"}, "layer: Input should be a valid integer."),
    ],
)
def test_a_bad_field_is_named_in_plain_words(body: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        JobIn.model_validate(body)
    first = caught.value.errors()[0]
    # The framework puts `body` before the place
    assert sentence({**first, "loc": ("body", *first["loc"])}) == said


def test_the_kinds_that_a_field_may_have_are_no_places() -> None:
    # What Pydantic says of `{"ids": 3}` and `{"inputs": 3}`, where either may be one or many
    assert place(("body", "ids", "list[constrained-int]", 0)) == "ids.0"
    assert place(("body", "inputs", "str")) == "inputs"
    # A field of such a name is one, and so is the body as a whole
    assert place(("body", "str")) == "str" and place(("body",)) == "body"
