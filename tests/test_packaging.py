"""What a user installs: the wheel's content."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def tracked() -> list[Path]:
    """Return the files that git tracks; where there is no git, as in a downloaded archive, those a wheel is made of."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        return [Path(name) for name in listed.stdout.splitlines() if (ROOT / name).exists()]
    wanted = ("storage", "producer", "worker", "embedmill", "pyproject.toml", "README.md", "LICENSE")
    files = [
        file for name in wanted for file in ((ROOT / name).rglob("*") if (ROOT / name).is_dir() else [ROOT / name])
    ]
    return [file.relative_to(ROOT) for file in files if file.is_file() and "__pycache__" not in file.parts]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel built from a copy of the tracked files, so that nothing left lying about gets in."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(built), str(source)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return zipfile.ZipFile(next(built.glob("embedmill-*.whl")))


def test_the_wheel_holds_the_four_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist() if ".dist-info" not in name}
    assert tops == {"storage", "producer", "worker", "embedmill"}


def test_every_module_and_marker_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for package in ("storage", "producer", "worker", "embedmill"):
        assert f"{package}/py.typed" in names
        modules = {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py")}
        assert modules <= names
    assert "storage/migrations/script.py.mako" in names
    web = {
        path.relative_to(ROOT) for kind in ("templates", "static") for path in (ROOT / "producer/web" / kind).iterdir()
    }
    assert web and {str(path) for path in web} <= names


def test_the_base_install_asks_for_neither_torch_nor_a_web_framework(wheel: zipfile.ZipFile) -> None:
    metadata = wheel.read(next(name for name in wheel.namelist() if name.endswith("METADATA"))).decode()
    base = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert any("sqlalchemy" in line.lower() for line in base)
    assert not [line for line in base if any(heavy in line.lower() for heavy in ("torch", "transformers", "fastapi"))]
    extras = {line.split(": ")[1] for line in metadata.splitlines() if line.startswith("Provides-Extra")}
    assert {"api", "worker", "postgres", "embedded", "arrow", "demo", "dev"} <= extras
