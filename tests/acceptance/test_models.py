"""Models: broken ones are refused before anything starts; a worker of one's own serves another beside the stack."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from embedmill import Client
from tests.acceptance.shell import Shell, address, get, serving
from tests.models import write_json
from worker.engine.checkpoint import resolve


def _break_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "bert", ')


def _truncate_weights(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def _pickle_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _bring_own_code(folder: Path) -> None:
    write_json(folder / "config.json", {"model_type": "bert", "auto_map": {"AutoModel": "mine.Model"}})


#: By what must be told.
BROKEN: dict[str, Callable[[Path], object]] = {
    "config.json": _break_config,
    "is truncated": _truncate_weights,
    "only pickled weights": _pickle_weights,
    "code": _bring_own_code,
    "There is no model folder": shutil.rmtree,
}


def test_a_broken_model_folder_is_refused_before_anything_starts(alone: Shell, tiny: Path) -> None:
    # Given a model folder broken in each way
    folders = [alone.cwd / f"model-{number}" for number in range(len(BROKEN))]
    for folder, spoil in zip(folders, BROKEN.values(), strict=True):
        shutil.copytree(tiny, folder)
        spoil(folder)
    # When a worker, or a whole stack, is to serve it
    commands = [
        (("up", "--port", 0) if number % 2 else ("worker",)) + ("--model", folder)
        for number, folder in enumerate(folders)
    ]
    ran = alone.together(commands)
    # Then the trouble is told, with exit code 2, and nothing was started or made
    for sentence, folder, one in zip(BROKEN, folders, ran, strict=True):
        assert (one.code, one.out) == (2, ""), (sentence, one)
        assert sentence in one.err and str(folder) in one.err and "Traceback" not in one.err, (sentence, one)
    assert not alone.data_dir.exists()


@pytest.mark.timeout(600)  # beside the stack it starts a worker, which measures, between several commands
def test_a_worker_of_ones_own_serves_another_model_beside_the_stack(shell: Shell, tiny: Path) -> None:
    # Given a model that nobody has served yet
    shell.write("in.txt", "the mill grinds flour\nthe river\n")
    refused = shell("submit", "in.txt", "--model", tiny)
    assert refused.code == 2 and "No worker has ever served" in refused.err and f"--model {tiny}" in refused.err
    # And a job for it that was accepted nevertheless, because it is its submitter's default, at the revision it has
    with Client(data_dir=shell.data_dir, model=str(tiny)) as client:
        early = client.submit(["an early text"], revision=resolve(str(tiny)).revision[:8])
        assert early.notice is not None and "The job is safe and waits for a worker" in early.notice
    # When a worker for it is started on the same data folder, and nothing is said of how it is to compute
    log, measures = shell.cwd / "log", {"EMBEDMILL_DTYPE": "", "EMBEDMILL_TOKEN_BUDGET": ""}
    own = replace(shell, variables=measures | {"XDG_CACHE_HOME": str(shell.cwd / "cache")})
    with serving(own, "worker", "--model", tiny, "--health-port", 0, log=log) as worker:
        # Then it has measured that, says what came of it, and will know it the next time
        told = re.search(
            r"serving .* in (float32|half), width 64, pooling mean; (float32|bfloat16) \(.+\), batches of \d+",
            log.read_text(),
        )
        assert "measuring once what is fastest here" in log.read_text()
        # And that nothing says how its states are pooled, once
        assert log.read_text().count("has no modules.json: mean pooling assumed") == 1
        assert told and (told[1] == "half") == (told[2] == "bfloat16"), log.read_text()
        # And that the network read from the files answers as transformers' own does
        assert len(list((shell.cwd / "cache").rglob("*.json"))) == 2
        # And it says that it is ready, and does the job with its own model
        assert get(f"{address(log)}/healthz")[0] == 200
        assert get(f"{address(log)}/nothing")[0] == 404
        ran = shell("embed", "in.txt", "--model", tiny, "--pooling", "cls", "--layer", 0, "-o", "out.npy")
        assert ran.code == 0, ran
        assert np.load(shell.cwd / "out.npy").shape == (2, 64)
        with Client(data_dir=shell.data_dir) as client:
            assert client.job(early.id).wait(60).succeeded == 1
        assert {"reconciler", "process"} <= _modules(worker.pid)
    # And when it is gone again, then a job is accepted, and waits, and says so
    waiting = shell("submit", "in.txt", "--model", tiny)
    assert waiting.code == 0 and "The job is safe and waits for a worker" in waiting.err and str(tiny) in waiting.err
    with Client(data_dir=shell.data_dir) as client:
        assert client.job(waiting.job_id).cancel()


def _modules(pid: int) -> set[str]:
    """Return which of the worker's modules run as children of a process."""
    lines = [" ".join(child.cmdline()) for child in psutil.Process(pid).children()]
    return {line.split("worker.")[1].split()[0] for line in lines if "worker." in line}
