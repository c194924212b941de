"""`embedmill tokens`: BERT's flow made visible, exactly what the classic call gives."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from storage.contract.models import DEFAULT_MODEL
from tests.acceptance.shell import EMBEDMILL, Shell
from tests.models import add_layout
from worker.engine.checkpoint import resolve

TEXT = "Unaffable millers don't grind 磨坊在河边。"


@pytest.fixture(scope="module")
def classic() -> Any:
    """The tokenizer of the default model, as transformers gives it."""
    return AutoTokenizer.from_pretrained(str(resolve(DEFAULT_MODEL).transformer))


def test_with_padding_it_is_the_classic_call(alone: Shell, classic: Any) -> None:
    # Given an English and Chinese text, when shown as in the classic recipe
    shown = alone("tokens", TEXT, "--padding", "max_length", "--max-length", 512, "--json").data
    # Then pieces, ids and mask are those of transformers
    expected = classic(TEXT, truncation=True, padding="max_length", max_length=512)
    assert list(shown) == ["pieces", "ids", "mask", "length", "truncated"]
    assert shown["ids"] == expected["input_ids"] and len(shown["ids"]) == 512
    assert shown["mask"] == expected["attention_mask"]
    assert shown["pieces"] == classic.convert_ids_to_tokens(expected["input_ids"])
    assert {"[CLS]", "[SEP]", "[PAD]", "河"} < set(shown["pieces"])
    assert (shown["length"], shown["truncated"]) == (sum(expected["attention_mask"]), False)


def test_what_would_be_cut_is_shown(alone: Shell, classic: Any) -> None:
    # Given a text longer than the limit
    whole = classic(TEXT)["input_ids"]
    # When shown, for a program and for a person
    data, table = alone.together([("tokens", TEXT, "--max-length", 8, *more) for more in (["--json"], [])])
    # Then the same is read as by the classic call, and the rest is named
    assert data.data["ids"] == classic(TEXT, truncation=True, max_length=8)["input_ids"]
    assert (data.data["length"], data.data["truncated"]) == (len(whole), True)
    assert f"{len(whole)} tokens, 8 read, {len(whole) - 8} cut" in table.out
    cut = classic.convert_ids_to_tokens(whole[7:-1])
    assert f"cut: {' '.join(cut)}" in table.out
    rows = [line.split() for line in table.out.splitlines()[1:9]]
    assert [int(row[2]) for row in rows] == data.data["ids"] and [row[1] for row in rows] == data.data["pieces"]


def test_bad_arguments_are_refused(alone: Shell) -> None:
    # Given arguments that cannot be, when shown
    bad = [["--padding", "none"], ["--model", alone.cwd / "nowhere"], ["--prompt-name", "question"]]
    ran = alone.together([("tokens", "x", *words) for words in (*bad, ["--prompt", "a", "--prompt-name", "b"])])
    ran += [alone.program("sh", "-c", f"exec {EMBEDMILL} tokens \"$(printf 'caf\\377')\"")]
    # Then they are refused
    assert [one.code for one in ran] == [2] * 5 and all("Traceback" not in one.err for one in ran), ran
    told = ["padding must be one of", "There is no model folder", "has no prompt named 'question'", "both given"]
    assert all(sentence in one.err for sentence, one in zip([*told, "The text is not UTF-8"], ran, strict=True)), ran


def test_the_prompt_is_shown_that_a_job_would_put_before_the_text(alone: Shell, tiny: Path) -> None:
    # Given a model with a prompt that is put before every text
    folder = Path(shutil.copytree(tiny, alone.cwd / "model"))
    add_layout(folder, prompts={"query": "river ", "none": ""}, default_prompt_name="query")
    # When a text is shown as it is asked for, then its prompt is what a job's would be
    asked = ([], ["--prompt", "wheel "], ["--prompt-name", "none"], ["--prompt", ""])
    ran = alone.together([("tokens", "mill", "--model", folder, "--json", *words) for words in asked])
    pieces = [one.data["pieces"][1:-1] for one in ran]
    assert pieces == [["river", "mill"], ["wheel", "mill"], ["mill"], ["mill"]]


def test_json_stays_json_in_every_encoding(alone: Shell) -> None:
    # Given a terminal without Chinese letters, when a Chinese text is shown, then a program reads it all the same
    shell = Shell(alone.data_dir, alone.cwd, {"PYTHONIOENCODING": "latin-1"})
    assert "河" in shell("tokens", TEXT, "--json").data["pieces"]
