"""What the doctor says of settings, packages, disk, devices and model."""

from __future__ import annotations

import os
import re
import runpy
from collections import namedtuple
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import pytest

from producer.api.settings import ApiSettings
from storage.checkups import onpackages, onsettings, places
from storage.checkups.check import Verdict
from tests.doctor.looking import amiss, findings, outcomes
from worker.checkups import ondevices, onmodel
from worker.settings import WorkerSettings

KINDS = (WorkerSettings, ApiSettings)

Disk = namedtuple("Disk", "total used free")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to stand in, and no settings but the test's own."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("EMBEDMILL_")]:
        monkeypatch.delenv(name)


def test_each_setting_is_told_with_its_source_and_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("EMBEDMILL_REDIS_URL=redis://:hush@there:6379/0\nEMBEDMILL_MODEL=theirs\n")
    (tmp_path / ".env").chmod(0o600)
    monkeypatch.setenv("EMBEDMILL_DATABASE_URL", "postgresql://miller:p@ss/flour@host/mill?password=more")
    monkeypatch.setenv("EMBEDMILL_API_KEY", "em_id_hush")
    found = outcomes(onsettings.area(KINDS, {"model": "mine", "data_dir": None}))
    assert {outcome.verdict for outcome in found.values()} == {Verdict.OK}
    told = found["values"].details
    assert "EMBEDMILL_MODEL = mine (flag)" in told
    assert "EMBEDMILL_REDIS_URL = redis://:***@there:6379/0 (.env)" in told
    assert "EMBEDMILL_API_KEY = *** (environment)" in told
    assert any(line.startswith("EMBEDMILL_DATABASE_URL = postgresql://miller:***@host/mill") for line in told)
    assert not [line for line in told if "hush" in line or "flour" in line or "more" in line]


def test_a_name_that_is_no_setting_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDMILL_REDIS_ULR", "redis://there")
    told = amiss(onsettings.area(KINDS, {}))["names"]
    assert told.verdict is Verdict.WARNING and "meant EMBEDMILL_REDIS_URL?" in told.found


def test_what_compose_and_the_roles_of_postgres_read_is_known(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    compose = (root / "docker-compose.yml").read_text(encoding="utf-8")
    roles = (root / "deploy/postgres/roles.sql").read_text(encoding="utf-8")
    read = {*re.findall(r"\$\{(EMBEDMILL_\w+)", compose), *re.findall(r"getenv \w+ (EMBEDMILL_\w+)", roles)}
    assert {"EMBEDMILL_TAG", "EMBEDMILL_OWNER_PASSWORD"} <= read
    (tmp_path / ".env").write_text("".join(f"{name}=\n" for name in sorted(read)))
    assert outcomes(onsettings.area(KINDS, {}))["names"].verdict is Verdict.OK


def test_a_setting_that_stands_in_a_file_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("hush")
    monkeypatch.setenv("EMBEDMILL_REDIS_PASSWORD_FILE", str(tmp_path / "password"))
    found = outcomes(onsettings.area(KINDS, {}))
    assert found["names"].verdict is Verdict.OK
    assert "EMBEDMILL_REDIS_PASSWORD = *** (file)" in found["values"].details


def test_a_password_that_others_may_read_is_told_of(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("EMBEDMILL_REDIS_URL=redis://:hush@there:6379/0\n")
    (tmp_path / ".env").chmod(0o644)
    assert "chmod 600" in str(amiss(onsettings.area(KINDS, {}))["secrets"].remedy)


def test_a_file_that_a_dotenv_names_is_told_of_and_not_read(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hush")
    (tmp_path / ".env").write_text(f"EMBEDMILL_REDIS_PASSWORD_FILE={tmp_path / 'password'}\n")
    told = amiss(onsettings.area(KINDS, {}))["values"]
    assert told.verdict is Verdict.WRONG and "EMBEDMILL_REDIS_PASSWORD_FILE stands in .env" in told.found


def test_a_value_that_cannot_be_used_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDMILL_LEASE_SECONDS", "soon")
    told = amiss(onsettings.area(KINDS, {}))["values"]
    assert told.verdict is Verdict.WRONG and "EMBEDMILL_LEASE_SECONDS" in told.found


def test_packages_within_their_ranges_are_well_and_others_are_named() -> None:
    assert amiss(onpackages.area()) == {}

    def lacking(name: str) -> str:
        if name in ("zstandard", "torch"):
            raise PackageNotFoundError(name)
        return "99.0" if name in ("sqlalchemy", "fastapi") else version(name)

    found = outcomes(onpackages.area(lacking))
    assert found["base"].verdict is found["parts"].verdict is Verdict.WRONG
    assert "zstandard is not installed" in found["base"].found and "sqlalchemy is 99.0" in found["base"].found
    assert "not here: worker" in found["parts"].found and "fastapi is 99.0" in found["parts"].found
    assert "pip install" in str(found["base"].remedy) and "pip install" in str(found["parts"].remedy)


@pytest.mark.parametrize(
    ("free", "verdict"), [(50 << 20, Verdict.WRONG), (900 << 20, Verdict.WARNING), (90 << 30, Verdict.OK)]
)
def test_a_disk_that_fills_is_told_of(
    free: int, verdict: Verdict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places.shutil, "disk_usage", lambda folder: Disk(100 << 30, (100 << 30) - free, free))
    told = places.room(tmp_path / "not" / "there" / "yet")
    assert told.verdict is verdict and (verdict is Verdict.OK or "room" in str(told.remedy))


def gpus(folder: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program in the driver's place that lists these GPUs."""
    program = folder / "nvidia-smi"
    listed = "\n".join(lines)
    short = "\n".join(f"{line.split(',')[0]}, GPU-{number}" for number, line in enumerate(lines))
    program.write_text(f'#!/bin/sh\ncase "$1" in *memory*) echo "{listed}";; *) echo "{short}";; esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_gpus_are_told_with_what_they_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(tmp_path, ["0, NVIDIA H100 80GB HBM3, 1200, 81559, 87, 61, 550.54, 0"], monkeypatch)
    monkeypatch.setattr(ondevices, "_torch", lambda: ("2.13.0", "12.8"))
    found = outcomes(ondevices.area("auto"))
    assert found["gpus"].verdict is Verdict.OK
    assert "NVIDIA H100 80GB HBM3, 1.3 GB of 85.5 GB used, 87 % busy, 61 °C" in found["gpus"].details[0]
    assert "cuda:0" in found["chosen"].found and "CUDA 12.8" in found["torch"].found


def test_what_is_wrong_with_gpus_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Errors of its memory, a torch that cannot use it, and a device that is not there
    gpus(tmp_path, ["0, NVIDIA A10, 0, 23028, 0, 40, 550.54, 17"], monkeypatch)
    monkeypatch.setattr(ondevices, "_torch", lambda: ("2.13.0+cpu", None))
    found = amiss(ondevices.area("cuda:3"))
    assert found["gpus"].verdict is Verdict.WARNING and "--devices" in str(found["gpus"].remedy)
    assert found["torch"].verdict is Verdict.WRONG and "CUDA" in str(found["torch"].remedy)
    assert found["chosen"].verdict is Verdict.WRONG and "cuda:0" in str(found["chosen"].remedy)


def test_a_gpu_without_a_driver_and_a_machine_without_torch_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ondevices, "_gpus", lambda: [])
    monkeypatch.setattr(ondevices, "_plugged_in", lambda: 2)
    monkeypatch.setattr(ondevices, "_torch", lambda: None)
    found = amiss(ondevices.area("auto"))
    assert found["gpus"].verdict is Verdict.WRONG and "driver" in str(found["gpus"].remedy)
    assert found["torch"].verdict is Verdict.NOT_CHECKED and "embedmill[worker]" in str(found["torch"].remedy)


def test_the_installed_torch_is_known_without_importing_it() -> None:
    spec = find_spec("torch")
    assert spec is not None and spec.origin is not None
    told = runpy.run_path(str(Path(spec.origin).with_name("version.py")))
    assert ondevices._torch() == (version("torch"), told["cuda"])


def test_the_default_model_is_there_and_others_are_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    assert amiss(onmodel.area(WorkerSettings())) == {}
    # One of the hub's that was not downloaded yet: nothing is downloaded now
    hub = amiss(onmodel.area(WorkerSettings(model="somebody/something")))["files"]
    assert hub.verdict is Verdict.WARNING and "hf download somebody/something" in str(hub.remedy)
    # A folder that is none, and one that holds no model
    missing = amiss(onmodel.area(WorkerSettings(model=str(tmp_path / "missing"))))["files"]
    empty = amiss(onmodel.area(WorkerSettings(model=str(tmp_path))))["files"]
    assert missing.verdict is empty.verdict is Verdict.WRONG and missing.remedy
    assert not any(finding.unreachable for finding in findings(onmodel.area(WorkerSettings(model=str(tmp_path)))))
