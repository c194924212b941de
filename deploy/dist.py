"""Builds the source archive and the wheel so that the same commit gives the same bytes, wherever it is built.

    python deploy/dist.py dist        # make dist does it

What is built is what git tracks; times are those of the commit, or of SOURCE_DATE_EPOCH; the wheel is built from the
archive. setuptools writes an archive with the times and the owner of whatever it finds, so that is written once more.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

PACKAGES = ("storage", "producer", "worker", "embedmill")


def main(folder: Path) -> None:
    """Build both into a folder and print their hashes."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["SOURCE_DATE_EPOCH"] = str(_moment())
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        source = place / "source"
        _copy_tracked(source)
        archive = _normalised(_built("sdist", source, place), folder)
        with tarfile.open(archive) as packed:
            packed.extractall(place / "unpacked", filter="data")
        (unpacked,) = (place / "unpacked").iterdir()
        wheel = Path(shutil.copy(_built("wheel", unpacked, place), folder))
    for file in (archive, wheel):
        print(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}")


def _moment() -> int:
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return int(given)
    asked = ["git", "log", "-1", "--format=%ct"]
    return int(subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def tracked() -> list[str]:
    """Return the files that git tracks; where there is no git, as in an archive, those that a build is made of."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    single = ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "CHANGELOG.md", "constraints.txt")
    files = [ROOT / name for name in single] + [file for name in PACKAGES for file in (ROOT / name).rglob("*")]
    return [str(file.relative_to(ROOT)) for file in files if file.is_file() and "__pycache__" not in file.parts]


def _copy_tracked(target: Path) -> None:
    """Copy what is built, with one mode for all files."""
    for name in tracked():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes((ROOT / name).read_bytes())
        (target / name).chmod(0o644)


def _built(kind: str, source: Path, place: Path) -> Path:
    out = place / kind
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    (built,) = out.iterdir()
    return built


def _normalised(archive: Path, folder: Path) -> Path:
    """Write an archive again: sorted, of one time, one owner and one mode."""
    moment = int(os.environ["SOURCE_DATE_EPOCH"])
    packed = io.BytesIO()
    with tarfile.open(archive) as old, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new:
        for member in sorted(old.getmembers(), key=lambda one: one.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = moment, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    target = folder / archive.name
    with target.open("wb") as file, gzip.GzipFile("", "wb", mtime=moment, fileobj=file) as compressed:
        compressed.write(packed.getvalue())
    return target


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "dist"))
