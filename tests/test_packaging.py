"""What a user installs: the wheel and the source archive, built as a release is."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from deploy.lock import LOCKS, entries, name_of, version_of

ROOT = Path(__file__).parents[1]

#: A second build, and an installation without an index, take minutes: `make dist-test`.
needs_time = pytest.mark.skipif(os.environ.get("DIST") != "all", reason="belongs to the long form: make dist-test")


def build(folder: Path, moment: int = 1_700_000_000) -> Path:
    """Build both as a release is built, into a folder."""
    place = os.environ | {"SOURCE_DATE_EPOCH": str(moment)}
    command = [sys.executable, str(ROOT / "deploy" / "dist.py"), str(folder)]
    finished = subprocess.run(command, env=place, capture_output=True, text=True, timeout=110)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive."""
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def wheel(dist: Path) -> zipfile.ZipFile:
    """The wheel."""
    return zipfile.ZipFile(next(dist.glob("embedmill-*.whl")))


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


def test_the_source_archive_holds_what_a_build_needs_and_no_tests(dist: Path, wheel: zipfile.ZipFile) -> None:
    with tarfile.open(next(dist.glob("embedmill-*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        assert {(one.uid, one.gid, one.uname, one.mtime) for one in archive.getmembers()} == {(0, 0, "", 1_700_000_000)}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "constraints.txt"} <= names
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} <= names
    assert not [name for name in names if name.split("/")[0] in ("tests", "benchmarks", "deploy", "docs")]


@needs_time
def test_a_build_gives_the_same_bytes_again(dist: Path, tmp_path: Path) -> None:
    again = build(tmp_path)
    files = sorted(file.name for file in dist.iterdir())
    assert len(files) == 2 and files == sorted(file.name for file in again.iterdir())
    for name in files:
        assert (dist / name).read_bytes() == (again / name).read_bytes(), name
    # And other bytes for another commit's time, so that the comparison can fail
    other = build(tmp_path / "other", 1_700_086_400)
    assert any((dist / name).read_bytes() != (other / name).read_bytes() for name in files)


@needs_time
@pytest.mark.timeout(900)
def test_the_source_archive_installs_without_an_index_and_works(dist: Path, tmp_path: Path, redis_server: str) -> None:
    # Given a folder with the locked files, and what builds the archive
    shelf, place = tmp_path / "shelf", tmp_path / "empty"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--only-binary", ":all:"]
    run([*pip, "--require-hashes", "--dest", str(shelf), "-r", str(LOCKS / "base.txt")])
    worker = {name_of(one): version_of(one) for one in entries((LOCKS / "worker.txt").read_text())}
    run([*pip, "--no-deps", "--dest", str(shelf), f"setuptools=={worker['setuptools']}"])
    # When it is installed from there alone into an empty environment
    run([sys.executable, "-m", "venv", str(place)])
    archive = next(dist.glob("embedmill-*.tar.gz"))
    run([str(place / "bin/pip"), "install", "--quiet", "--no-index", "--find-links", str(shelf), f"{archive}[api]"])
    # Then it runs, takes texts, and knows them again
    shell = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "EMBEDMILL_REDIS_URL": redis_server}
    shell |= {"EMBEDMILL_DATABASE_URL": f"sqlite:///{tmp_path}/mill.sqlite3"}
    embedmill = str(place / "bin/embedmill")
    assert run([embedmill, "--version"], shell).startswith("embedmill ")
    run([embedmill, "migrate"], shell)
    (tmp_path / "texts.txt").write_text("The mill grinds.\nBread is baked.\n")
    job = run([embedmill, "submit", str(tmp_path / "texts.txt")], shell).strip()
    assert '"total": 2' in run([embedmill, "status", job, "--json"], shell)


def run(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Run a command that must succeed; return what it prints."""
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout
