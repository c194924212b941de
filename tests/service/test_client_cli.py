"""The command line asks a service as it asks storage, with an address in place of a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.acceptance.shell import Shell
from tests.service.serving import Served


def test_a_job_from_beginning_to_end_over_http(served: Served, tmp_path: Path) -> None:
    # Given a machine with nothing but the address of a service
    shell = Shell(tmp_path / "nothing", tmp_path, {"EMBEDMILL_URL": served.url, "EMBEDMILL_DATA_DIR": ""})
    lines = [{"id": f"sack-{i}", "text": f"Sack {i} of rye."} for i in range(5)]
    shell.write("sacks.jsonl", [*lines[:4], {"id": "sack-4", "text": " "}])
    # When a file is embedded in one go
    ran = shell("embed", "sacks.jsonl", "--id-field", "id", "--on-invalid", "keep", "-o", "sacks.npy")
    # Then the exit code tells of the bad line, and the vectors are there
    assert ran.code == 1, ran.err
    vectors = np.load(tmp_path / "sacks.npy")
    assert vectors.shape == (5, 384) and np.isnan(vectors).all(axis=1).tolist() == [False] * 4 + [True]
    # And the job can be looked at, its failures fetched, and be deleted
    (job,) = [json.loads(line) for line in shell("jobs", "--limit", 1, "--json").out.splitlines()]
    assert (job["state"], job["total"], job["failed"]) == ("completed", 5, 1)
    failed, status = shell.together(
        [("results", job["id"], "--failed", "-o", "failed.jsonl"), ("status", job["id"], "--json")]
    )
    assert failed.code == 0 and "1 item in failed.jsonl" in failed.err, failed
    assert json.loads((tmp_path / "failed.jsonl").read_text())["id"] == "sack-4"
    assert status.data == job
    assert shell("delete", job["id"]).code == 0
    assert shell("status", job["id"]).code == 3
    assert not (tmp_path / "nothing").exists()


def test_bad_lines_are_told_by_their_lines_and_a_missing_service_by_its_address(served: Served, tmp_path: Path) -> None:
    shell = Shell(tmp_path / "data", tmp_path)
    shell.write("sacks.txt", "rye\n\n" + "x" * 1_000_001 + "\n")
    refused, away, both = shell.together(
        [
            ("submit", "sacks.txt", "--url", served.url),
            ("jobs", "--url", "http://127.0.0.1:9"),
            ("jobs", "--url", served.url, "--data-dir", tmp_path),
        ]
    )
    assert refused.code == 2 and "line 2: the text is empty" in refused.err and refused.out == ""
    assert away.code == 4 and "http://127.0.0.1:9" in away.err
    assert both.code == 2 and "--url and --data-dir" in both.err
