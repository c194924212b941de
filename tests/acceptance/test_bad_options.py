"""Options, models and ids that do not exist or do not fit: refused at once, with what to do instead."""

from __future__ import annotations

import pytest

from embedmill import Client
from storage.contract.errors import InvalidOption, UnknownModel
from storage.contract.ids import new_id
from tests.acceptance.shell import Shell

#: By what must be told: options of `submit`.
BAD_OPTIONS = {
    "No such option: --poolin": ["--poolin", "mean"],
    "pooling must be one of mean, cls, max, last": ["--pooling", "median"],
    "Invalid value for '--dimensions'": ["--dimensions", "many"],
    "dimensions is 385, but sentence-transformers/all-MiniLM-L6-v2 has 384": ["--dimensions", "385"],
    "(or worker) --model nobody/serves-this": ["--model", "nobody/serves-this"],
    "Give --wait too": ["--timeout", "60"],
    "The database URL is not one": ["--database-url", "my database"],
}


def test_an_unknown_option_or_value_is_refused_and_nothing_is_submitted(shell: Shell) -> None:
    # Given a good file
    shell.write("in.txt", "a text")
    before = shell.rows()
    # When submitted with each bad option
    ran = shell.together([("submit", "in.txt", *words) for words in BAD_OPTIONS.values()])
    # Then it is told what is wrong, with exit code 2, and nothing was kept
    for sentence, one in zip(BAD_OPTIONS, ran, strict=True):
        assert (one.code, one.out) == (2, ""), (sentence, one)
        assert sentence in _unboxed(one.err) and "Traceback" not in one.err, (sentence, one)
    assert shell.rows() == before


def test_a_bad_variable_is_named(alone: Shell) -> None:
    # Given a variable that holds no number, when any command runs
    ran = Shell(alone.data_dir, alone.cwd, {"EMBEDMILL_MAX_TEXT_BYTES": "a lot"})("jobs")
    # Then the variable is named
    assert ran.code == 2 and "EMBEDMILL_MAX_TEXT_BYTES" in ran.err


def test_python_refuses_the_same_options(shell: Shell) -> None:
    # Given a client
    before = shell.rows()
    with Client(data_dir=shell.data_dir) as client:
        # When options are unknown, impossible, or too large for the model, then each is refused
        for options, sentence in (
            ({"poolin": "mean"}, "Unknown option: poolin"),
            ({"pooling": "median"}, "pooling must be one of"),
            ({"padding": "both"}, "padding must be one of"),
            ({"on_long": "ignore"}, "on_long must be one of"),
            ({"store_dtype": "int8"}, "store_dtype must be one of"),
            ({"dimensions": 0}, "at least 1"),
            ({"dimensions": 385}, "has 384"),
            ({"max_length": 9000}, "max_length is 9000, but"),
            ({"layer": 7}, r"has 6 layers \(0..6\)"),
            ({"prompt_name": "question"}, "has no prompt named 'question'"),
            ({"on_invalid": "drop"}, "on_invalid must be"),
            ({"priority": "high"}, "priority must be"),
            ({"idempotency_key": ""}, "1 to 255 characters"),
        ):
            with pytest.raises(InvalidOption, match=sentence):
                client.submit(["a text"], **options)  # type: ignore[arg-type]
        with pytest.raises(InvalidOption, match="a single text"):
            client.submit("a text")
        with pytest.raises(InvalidOption, match="no texts"):
            client.submit([])
        with pytest.raises(UnknownModel, match="Start one: embedmill up"):
            client.submit(["a text"], model="nobody/serves-this")
    # And nothing was kept
    assert shell.rows() == before


def test_a_job_that_does_not_exist_has_an_exit_code_of_its_own(alone: Shell) -> None:
    # Given no job, when one is asked for by a malformed id, and by well-formed ones
    unknown = new_id()
    with Client(data_dir=alone.data_dir) as client:
        assert client.jobs() == []
    ran = alone.together([("status", "job-1"), ("results", unknown, "-o", "out.npy"), ("delete", unknown)])
    # Then all say so, with exit code 3
    assert [one.code for one in ran] == [3] * 3, ran
    assert "There is no job 'job-1'" in ran[0].err
    assert all(f"There is no job {unknown}" in one.err and "embedmill jobs" in one.err for one in ran[1:])
    assert not (alone.cwd / "out.npy").exists()


def _unboxed(text: str) -> str:
    """Return a message without the frame and the line breaks that the command line's parser puts around its own."""
    return " ".join(text.replace("│", " ").split())
