"""Commands that work on a database do not work on another one when a service is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from producer import datacli, keycli, webhookcli
from storage.contract.errors import InvalidOption

_COMMANDS = [
    (keycli.app, ["create", "miller"]),
    (keycli.app, ["list"]),
    (keycli.app, ["revoke", "mfrggzdfmztwq2lk"]),
    (webhookcli.group, ["secret"]),
    (datacli.app, ["purge", "--older-than", "1"]),
    (datacli.app, ["publish", "0197a0f4-0000-7000-8000-000000000000", "--to-pgvector", "t"]),
]


@pytest.mark.parametrize(("app", "words"), _COMMANDS, ids=[" ".join(words[:2]) for _, words in _COMMANDS])
@pytest.mark.parametrize("named", ["flag", "environment"])
def test_a_service_that_is_named_is_not_passed_over(
    app: Typer, words: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a service, named by flag or environment, and a data folder that is used where nothing is named
    monkeypatch.setenv("EMBEDMILL_DATA_DIR", str(tmp_path / "data"))
    url = "http://127.0.0.1:9"
    if named == "environment":
        monkeypatch.setenv("EMBEDMILL_URL", url)
    # When the command is typed, then it says what it works on, and has made and changed nothing here
    told = CliRunner().invoke(app, [*words, *(["--url", url] if named == "flag" else [])])
    assert isinstance(told.exception, InvalidOption) and "database" in str(told.exception)
    assert told.stdout == "" and not (tmp_path / "data").exists()


def test_a_database_that_is_named_counts_more_than_a_service_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDMILL_URL", "http://127.0.0.1:9")
    told = CliRunner().invoke(webhookcli.group, ["secret", "--data-dir", str(tmp_path / "data")])
    assert told.exit_code == 0 and told.stdout.startswith("whsec_") and "Keep it" in told.stderr
