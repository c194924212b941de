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


def test_a_job_is_found_again_by_its_name_and_labels(served: Served, tmp_path: Path) -> None:
    # Given a job with a name and labels
    shell = Shell(tmp_path / "nothing", tmp_path, {"EMBEDMILL_URL": served.url, "EMBEDMILL_DATA_DIR": ""})
    shell.write("sacks.txt", "rye\n")
    sent = shell("submit", "sacks.txt", "--name", "harvest", "--label", f"run={tmp_path.name}", "--label", "sum=1+1=2")
    assert sent.code == 0, sent.err
    job_id, label = sent.out.strip(), f"run={tmp_path.name}"
    # When it is looked for
    asked = [("jobs", "--label", label, "--json", *more) for more in ((), ("--since", "1h"), ("--until", "1h"))]
    asked += [("jobs", "--label", label, "--name", "harvest", "--state", "completed,running", "--state", "queued")]
    asked += [("jobs", "--label", label, "--name", "sowing"), ("status", job_id)]
    asked += [("jobs", "--label", "run"), ("jobs", "--since", "soon"), ("jobs", "--state", "done")]
    asked += [("jobs", "--label", "a=1", "--label", "a=2"), ("submit", "sacks.txt", "--label", "a=" + "1" * 513)]
    by_label, since, until, named, other, status, bad_label, bad_time, bad_state, twice, long = shell.together(asked)
    # Then it is found, with both
    assert by_label.data["id"] == since.data["id"] == job_id and until.out == ""
    assert (by_label.data["name"], by_label.data["labels"]) == ("harvest", {"run": tmp_path.name, "sum": "1+1=2"})
    assert "There are no such jobs." in other.err
    assert job_id in status.out and "sum=1+1=2" in status.out and "harvest" in status.out
    # And what is no label, no time or no state is refused with how to write one
    assert (bad_label.code, bad_time.code, bad_state.code) == (2, 2, 2)
    assert (twice.code, long.code) == (2, 2) and "given twice" in twice.err and "513 characters" in long.err
    assert "team=search" in bad_label.err and "90m" in bad_time.err and "completed" in bad_state.err
    assert named.code == 0 and (job_id in named.out or "no such jobs" in named.err)


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
