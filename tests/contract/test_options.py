"""The options of a job: each bad value is refused by name."""

from dataclasses import replace
from typing import Any

import pytest

from storage.contract.errors import InvalidOption
from storage.contract.models import ModelCard
from storage.contract.options import JobOptions

CARD = ModelCard(
    name="mill/grain-small",
    revision="5f1c0de",
    precision="float32",
    width=384,
    max_length=256,
    layers=6,
    pooling="mean",
    normalize=True,
    prompts={"query": "query: ", "passage": "passage: "},
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pooling", "median"),
        ("pooling", ""),
        ("pooling", "MEAN"),
        ("normalize", "yes"),
        ("normalize", 1),
        ("layer", -2),
        ("layer", 1.0),
        ("layer", "last"),
        ("layer", None),
        ("layer", True),
        ("max_length", 2),
        ("max_length", 0),
        ("max_length", -1),
        ("max_length", 12.5),
        ("max_length", "512"),
        ("max_length", False),
        ("padding", "shortest"),
        ("padding", None),
        ("padding", True),
        ("on_long", "drop"),
        ("on_long", None),
        ("prompt", 7),
        ("prompt", "lone \ud800 surrogate"),
        ("prompt_name", ["query"]),
        ("dimensions", 0),
        ("dimensions", -64),
        ("dimensions", 64.0),
        ("dimensions", True),
        ("store_dtype", "bfloat16"),
        ("store_dtype", None),
        ("deterministic", 1),
        ("deterministic", "yes"),
        ("deterministic", None),
    ],
)
def test_a_value_that_no_model_allows_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidOption, match=rf"^{name} "):
        JobOptions(**{name: value})


def test_the_text_of_a_prompt_is_not_repeated_in_its_error() -> None:
    with pytest.raises(InvalidOption) as caught:
        JobOptions(prompt="secret recipe \ud800")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["pooling", "padding", "on_long", "store_dtype", "normalize", "layer", "dimensions"])
def test_a_text_in_the_wrong_place_is_not_repeated_in_its_error(name: str) -> None:
    for text in ("The miller's own secret", ["secret"], {"secret": 1}, "secret" * 10):
        with pytest.raises(InvalidOption) as caught:
            JobOptions.from_dict({name: text})
        assert "secret" not in str(caught.value)


def test_prompt_and_prompt_name_exclude_each_other() -> None:
    with pytest.raises(InvalidOption, match="both given"):
        JobOptions(prompt="query: ", prompt_name="query")


@pytest.mark.parametrize(
    "given",
    [
        {"dimensions": 385},
        {"max_length": 257},
        {"layer": 7},
        {"prompt_name": "question"},
    ],
    ids=str,
)
def test_what_the_model_does_not_have_is_refused_once_it_is_known(given: dict[str, Any]) -> None:
    options = JobOptions(**given)
    with pytest.raises(InvalidOption, match=next(iter(given)).split("_")[0]) as caught:
        options.check_against(CARD)
    assert CARD.name in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"dimensions": 384, "max_length": 256, "layer": 6, "prompt_name": "query"},
        {"dimensions": 1, "max_length": 3, "layer": 0, "prompt": ""},
        {"layer": -1, "normalize": False, "pooling": "last", "padding": "max_length", "on_long": "error"},
    ],
    ids=str,
)
def test_what_the_model_has_is_allowed(given: dict[str, Any]) -> None:
    JobOptions(**given).check_against(CARD)


def test_a_model_without_prompts_says_so() -> None:
    with pytest.raises(InvalidOption, match="it has: none"):
        JobOptions(prompt_name="query").check_against(replace(CARD, prompts={}))


def test_the_width_of_a_vector_is_the_models_unless_it_is_cut() -> None:
    assert JobOptions().width(CARD) == 384
    assert JobOptions(dimensions=64).width(CARD) == 64


def test_options_come_back_from_json_with_every_option_named() -> None:
    options = JobOptions(pooling="cls", max_length=16, prompt="问：", store_dtype="float16")
    kept = options.to_dict()
    assert set(kept) == set(JobOptions.__dataclass_fields__) - {"deterministic"}
    assert JobOptions.from_dict(kept) == options
    # What an earlier version's workers do not know is named only where it was asked for
    asked = JobOptions(deterministic=True)
    assert set(asked.to_dict()) == set(JobOptions.__dataclass_fields__)
    assert JobOptions.from_dict(asked.to_dict()) == asked
    assert JobOptions.from_dict({}) == JobOptions()


def test_an_unknown_option_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(InvalidOption, match=r"Unknown option: colour, size\..*pooling.*store_dtype"):
        JobOptions.from_dict({"size": 1, "colour": "red", "layer": 0})
