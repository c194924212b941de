"""`embedmill bench`: a user measures a model on his own machine, with no Redis and no database."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.shell import Shell

STAGES = ["tokenize", "form batches", "forward", "pool", "write vectors"]


def test_a_model_is_measured_for_a_program_and_for_a_person(alone: Shell, tiny: Path) -> None:
    # Given a model folder and a file with a text a line
    texts = alone.write("texts.txt", "The mill grinds.\nBread is baked.\n")
    # When it is measured, once as JSON, once as a table, and nothing is left to be found out beforehand
    asked = ("bench", "--model", tiny, "--dtype", "float32", "--devices", "cpu", "--token-budget", 512, "--seconds", 1)
    json, table = alone.together([(*asked, "--texts", texts, "--json"), asked])
    # Then the report is whole
    assert (json.code, table.code) == (0, 0), (json, table)
    assert [stage["name"] for stage in json.data["stages"]] == STAGES
    assert json.data["precision"] == "float32" and json.data["tokens_per_second"] > 0
    assert json.data["floor_share"] > 0 and json.data["verdict"]
    # And the table shows the same, and ends in what limits
    assert all(stage in table.out for stage in STAGES) and "share of the floor" in table.out
    assert "limits" in table.out.splitlines()[-1]
    # And nothing was left behind
    assert not alone.data_dir.exists()


def test_what_cannot_be_measured_is_refused(alone: Shell, tiny: Path) -> None:
    # Given no file of texts, a wrong dtype, and a folder without a model
    refused = alone.together(
        [
            ("bench", "--model", tiny, "--devices", "cpu", "--texts", alone.cwd / "nowhere.txt"),
            ("bench", "--model", tiny, "--dtype", "float3"),
            ("bench", "--model", alone.cwd / "nowhere"),
        ]
    )
    # When that is to be measured, then each is told on stderr alone, with exit code 2
    for ran, told in zip(refused, ("nowhere.txt cannot be read", "DTYPE", "There is no model folder"), strict=True):
        assert (ran.code, ran.out) == (2, ""), ran
        assert told in ran.err and "Traceback" not in ran.err, ran
