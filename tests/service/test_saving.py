"""Results become files in the same way over storage and over HTTP: of failed jobs, by paths of any kind."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from embedmill import Client, Job
from storage.contract import errors
from tests.acceptance.shell import Shell
from tests.service.serving import Served
from tests.service.submitted import WAITS

TEXTS = ["The mill stands by the river.", "Rye is ground on Tuesdays."]


@pytest.fixture(scope="module")
def failed(served: Served, clients: dict[str, Client]) -> Iterator[str]:
    """Id of a job that failed as a whole."""
    job = clients["storage"].submit(TEXTS, **WAITS)
    served.service.stores.jobs.fail(job.id, errors.InvalidOption("dimensions is 9."))
    yield job.id
    job.delete()


@pytest.fixture
def ground(clients: dict[str, Client], client: Client) -> Job:
    """A job of two texts that is done."""
    job = clients["storage"].submit(TEXTS, priority="urgent")
    job.wait(60)
    return client.job(job.id)


@pytest.mark.parametrize("format", ["npy", "npz"])
def test_a_failed_job_has_no_file_of_vectors_alone(client: Client, failed: str, tmp_path: Path, format: str) -> None:
    # Given a job that failed, when its vectors are saved
    with pytest.raises(errors.JobFailed, match="failed and has no vectors"):
        client.job(failed).save(tmp_path / f"out.{format}")
    # Then no file is there, and what says why is written all the same
    assert list(tmp_path.iterdir()) == []
    assert client.job(failed).save(tmp_path / "out.jsonl") == 2
    assert client.job(failed).save(tmp_path / "failed.jsonl", only_failed=True) == 2


def test_the_command_line_says_by_its_code_that_a_job_failed(served: Served, failed: str, tmp_path: Path) -> None:
    shell = Shell(served.service.settings.data_dir, tmp_path)
    asked = ("results", failed, "-o", "out.npy")
    for ran in shell.together([asked, (*asked, "--url", served.url)]):
        assert ran.code == 1 and "failed and has no vectors" in ran.err, ran
    assert not (tmp_path / "out.npy").exists()


class Sack:
    """A path that is no `Path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


@pytest.mark.parametrize("kind", [str, Sack, Path])
def test_a_file_may_be_named_in_any_way(ground: Job, tmp_path: Path, kind: Any) -> None:
    # Given a path as text, or as an object of another library, when results are saved there
    assert ground.save(kind(tmp_path / "out.npy")) == 2
    assert ground.save(kind(tmp_path / "out"), "jsonl") == 2
    # Then they are there, and kept as those at any path
    assert np.array_equal(np.load(tmp_path / "out.npy"), ground.vectors())
    assert [json.loads(line)["position"] for line in (tmp_path / "out").read_text().splitlines()] == [0, 1]
    with pytest.raises(errors.OutputExists):
        ground.save(kind(tmp_path / "out.npy"))
    with pytest.raises(errors.InvalidOption, match="names no format"):
        ground.save(kind(tmp_path / "out"))


@pytest.mark.parametrize("target", [None, 7, io.StringIO(), b"out.npy"])
def test_what_takes_no_bytes_is_refused(ground: Job, target: Any) -> None:
    with pytest.raises(errors.InvalidOption, match="cannot be written to"):
        ground.save(target, "npy")


def test_arrow_and_parquet_come_from_a_service_without_pyarrow_here(
    served: Served, clients: dict[str, Client], tmp_path: Path
) -> None:
    # Given a machine without pyarrow, and a job
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['pyarrow'] = None\n")
    path = f"{tmp_path}:{':'.join(filter(None, sys.path))}"
    shell = Shell(tmp_path / "nothing", tmp_path, {"EMBEDMILL_URL": served.url, "PYTHONPATH": path})
    shell.write("sacks.txt", "rye\nwheat\n")
    # When results are asked for as the files that the service makes
    sent = shell("embed", "sacks.txt", "-o", "sacks.parquet")
    (job,) = [json.loads(line) for line in shell("jobs", "--limit", 1, "--json").out.splitlines()]
    got = shell("results", job["id"], "-o", "sacks.arrow")
    # Then they are there
    assert (sent.code, got.code) == (0, 0), (sent, got)
    assert pyarrow.parquet.read_table(tmp_path / "sacks.parquet")["position"].to_pylist() == [0, 1]
    with pyarrow.ipc.open_file(tmp_path / "sacks.arrow") as table:
        assert table.read_all()["position"].to_pylist() == [0, 1]
