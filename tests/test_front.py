"""What can be imported from `embedmill`: all that its methods take, give and raise, each only when it is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import embedmill
from storage.contract import errors

#: All that is public beside the errors.
_BESIDE = {"Client", "Job", "JobOptions", "JobStatus", "Outcome", "read"}

_LIGHT = """
import sys
before = set(sys.modules)
import embedmill
floors = ("storage", "producer", "worker")
print(*sorted(name for name in set(sys.modules) - before if name.partition(".")[0] in floors))
"""


def test_every_error_can_be_caught_by_a_name_that_is_public() -> None:
    assert set(embedmill.__all__) == set(errors.__all__) | _BESIDE
    for name in errors.__all__:
        assert getattr(embedmill, name) is getattr(errors, name)
    assert set(embedmill.__all__) <= set(dir(embedmill))
    with pytest.raises(AttributeError, match="no attribute 'Mill'"):
        _ = embedmill.Mill


def test_what_methods_give_is_of_public_classes(tmp_path: Path) -> None:
    # Given a file, and a client of a place where nobody works
    (tmp_path / "in.jsonl").write_text('{"text": "The wheel waits for water."}\n')
    with embedmill.Client(data_dir=tmp_path / "data") as client:
        # When its records are submitted, then all that comes back has a public name
        job = client.submit_records(
            embedmill.read(tmp_path / "in.jsonl"), with_ids=False, options=embedmill.JobOptions(max_length=8)
        )
        assert isinstance(job, embedmill.Job)
        assert isinstance(job.status(), embedmill.JobStatus)
        job.cancel()
        assert all(isinstance(outcome, embedmill.Outcome) for outcome in job.results())
        with pytest.raises(embedmill.InvalidOption):
            client.submit([])
        with pytest.raises(embedmill.UnknownJob):
            client.job("job-1")


def test_importing_it_imports_nothing_else_of_ours() -> None:
    ran = subprocess.run([sys.executable, "-c", _LIGHT], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def test_the_demo_uses_what_is_public_alone() -> None:
    for example in (Path(__file__).parents[1] / "examples").glob("*.py"):
        imported = [line for line in example.read_text().splitlines() if line.startswith(("import ", "from "))]
        assert not [line for line in imported if line.split()[1].partition(".")[0] in ("storage", "producer", "worker")]
