"""The locks agree with `constraints.txt` and `pyproject.toml`, and every package of theirs may be shipped."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.licences import PAGE, is_allowed
from deploy.lock import IMAGES, LOCKS, ROOT, entries, name_of, version_of

_LOCKS = ("base", "worker", "torch-cuda", "torch-cpu", "models", "build")

#: What `constraints.txt` leaves out, since each build of torch names its own.
_LEFT_OUT = re.compile(r"setuptools|triton|nvidia-.*|cuda-.*")


def pinned(*locks: str) -> dict[str, str]:
    """Return the version of each package of some locks."""
    found = [entry for lock in locks for entry in entries((LOCKS / f"{lock}.txt").read_text())]
    return {name_of(entry): version_of(entry) for entry in found}


def constraints() -> dict[str, str]:
    """Return the versions that the whole project is held to."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in lines}


@pytest.mark.parametrize("lock", _LOCKS)
def test_a_lock_pins_what_the_constraints_pin_and_names_the_files(lock: str) -> None:
    found = entries((LOCKS / f"{lock}.txt").read_text())
    assert found
    held = constraints()
    for entry in found:
        assert re.search(r" --hash=sha256:[0-9a-f]{64}\b", entry), entry
        if not _LEFT_OUT.fullmatch(name_of(entry)):
            assert version_of(entry).split("+")[0] == held[name_of(entry)], name_of(entry)


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_s_locks_hold_all_that_the_project_asks_for(image: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = list(project["dependencies"])
    for extra in IMAGES[image].split(","):
        asked += project["optional-dependencies"][extra]
    builds = [("base",)] if image == "base" else [("worker", "torch-cuda"), ("worker", "torch-cpu")]
    for locks in builds:
        found = pinned(*locks)
        for words in asked:
            wanted = Requirement(words)
            if wanted.name == "embedmill":
                assert wanted.extras <= set(IMAGES[image].split(",")), "an extra that asks for another"
                continue
            if wanted.name == "nvidia-ml-py" and "torch-cpu" in locks:
                continue  # it asks NVIDIA's driver, which is where GPUs are
            assert wanted.specifier.contains(found[canonicalize_name(wanted.name)]), (locks, words)
            for extra in wanted.extras:
                assert extra in ("redis", "binary", "standard"), "look whether the lock has what this extra asks for"


def test_whatever_pip_does_in_an_image_it_takes_nothing_without_a_hash() -> None:
    dockerfile = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    commands = re.findall(r"pip (?:install|wheel) [^&\n]*", dockerfile)
    assert len(commands) >= 5
    for command in commands:
        assert "--require-hashes" in command or "--no-index" in command, command
        # What builds our wheel is what was installed before, and not fetched once more
        assert command.startswith("pip install") or "--no-build-isolation" in command, command


def test_our_wheel_is_made_by_the_setuptools_that_the_project_asks_for() -> None:
    (wanted,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    build = pinned("build")
    assert list(build) == ["setuptools"] and Requirement(wanted).specifier.contains(build["setuptools"])
    assert build["setuptools"] == pinned("worker")["setuptools"]


def test_the_builds_of_torch_are_of_one_version() -> None:
    (cuda, cpu) = (pinned(f"torch-{kind}")["torch"] for kind in ("cuda", "cpu"))
    assert cpu == f"{cuda}+cpu"
    assert "torch" not in pinned("worker") and not [name for name in pinned("worker") if name.startswith("nvidia")]
    assert "torch" not in pinned("base")


def test_every_locked_package_is_listed_with_a_licence_that_may_be_shipped() -> None:
    rows = [line.split("|")[1:4] for line in PAGE.read_text().splitlines() if line.startswith("| ")][2:]
    listed = {name.strip(): (version.strip(), licence.strip()) for name, version, licence in rows}
    shipped = pinned("base", "worker", "models") | {"torch": pinned("torch-cuda")["torch"]}
    assert {name: version for name, (version, _) in listed.items()} == shipped
    assert [name for name, (_, licence) in listed.items() if not is_allowed(licence)] == []
    for name, version in pinned("torch-cuda").items():
        assert name == "torch" or f"- {name} {version}\n" in PAGE.read_text()


@pytest.mark.parametrize("licence", ["GPL-3.0-only", "AGPL-3.0", "MIT AND GPL-3.0-only", "unknown", "", "Proprietary"])
def test_a_licence_that_may_not_be_shipped_is_refused(licence: str) -> None:
    assert not is_allowed(licence)
    assert is_allowed("MPL-2.0 AND (Apache-2.0 OR MIT)") and is_allowed("GPL-3.0-only OR MIT")


def test_everything_that_is_locked_is_audited() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\naudit:")[2].partition("\n\n")[0]
    (named,) = re.findall(r"for lock in (.*); do", recipe)
    assert set(named.split()) == set(_LOCKS) == {path.stem for path in LOCKS.glob("*.txt")}
    # And by a version that advisories know: a build's own name is taken off
    (edit,) = re.findall(r"sed '(.*)'", recipe)
    for lock in _LOCKS:
        asked = subprocess.run(["sed", edit, LOCKS / f"{lock}.txt"], capture_output=True, text=True, check=True).stdout
        assert [version_of(entry) for entry in entries(asked)] == [
            version_of(entry).split("+")[0] for entry in entries((LOCKS / f"{lock}.txt").read_text())
        ]


def test_the_list_for_a_release_names_each_long_form_of_the_tests() -> None:
    targets = re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    long_forms = {name for name in targets if name == "test" or name.endswith("-test")} | {"chaos", "machines", "fuzz"}
    assert len(long_forms) >= 11 and long_forms <= set(targets)
    told = set(re.findall(r"`make ([a-z0-9-]+)`", (ROOT / "docs" / "releasing.md").read_text("utf-8")))
    assert long_forms - told == set()
