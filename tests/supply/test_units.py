"""systemd's units start what there is, and let it stop in order."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from worker.settings import WorkerSettings

UNITS = sorted((Path(__file__).resolve().parents[2] / "deploy" / "systemd").glob("*.service"))


def settings(unit: Path) -> dict[str, str]:
    lines = (line.partition("=") for line in unit.read_text("utf-8").splitlines() if not line.startswith("#"))
    return {name: value for name, equals, value in lines if equals}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_a_command_that_there_is_and_stops_it_in_order(unit: Path) -> None:
    told = settings(unit)
    # The command takes the options that it is given
    program, command, *options = shlex.split(told["ExecStart"])
    asked = [sys.executable, "-m", "embedmill", command, *options, "--help"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and program.endswith("/embedmill"), done.stderr
    # The first process alone is told to stop, and has its grace and that of leases
    assert told["KillMode"] == "mixed" and told["Restart"] == "always"
    grace = WorkerSettings.model_fields["stop_grace"].default if command != "api" else 0
    assert int(told["TimeoutStopSec"]) >= grace + 40
    assert f"EMBEDMILL_DATA_DIR=/var/lib/{told['StateDirectory']}" in told["Environment"]
    # And nobody else reads what lies there
    assert (told["StateDirectoryMode"], told["UMask"]) == ("0700", "0077")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_says_how_the_user_is_made_that_it_runs_as(unit: Path) -> None:
    # (systemd starts nothing for a user that is not there: status 217/USER)
    user = settings(unit)["User"]
    head = unit.read_text("utf-8").partition("[Unit]")[0]
    made = [shlex.split(line.lstrip("# ")) for line in head.splitlines() if "useradd" in line]
    assert made == [["useradd", "--system", "--home-dir", f"/var/lib/{settings(unit)['StateDirectory']}", user]]
    # And before the unit is started
    assert head.index("useradd") < head.index(f"systemctl enable --now {unit.stem}")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_takes_a_unit(unit: Path, tmp_path: Path) -> None:
    # (the program is not where a unit expects it, nor its user: a shell and root stand in)
    text = unit.read_text("utf-8").replace("/opt/embedmill/bin/embedmill", "/bin/sh").replace("User=embedmill", "")
    copy = tmp_path / unit.name
    copy.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and unit.name not in done.stderr, done.stderr
