"""A copy of the working tree in which bugs are planted, checked and looked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from tests.faults.plants.plant import Plant

_FLOORS = ("storage", "worker", "producer", "embedmill")

#: What tells that a test could not run, rather than what it found.
_NO_VERDICT = ("ImportError", "ModuleNotFoundError", "SyntaxError", "NameError", "fixture ", "Failed: Timeout")

#: Longest run of one test, in seconds.
_LONGEST = 400


class Unfit(Exception):
    """Raised when the copy, or a bug planted in it, is not fit to be tested."""


class Copy:
    """The tree, in a folder of its own.

    Args:
        source: The working tree.
        root: An empty folder.
    """

    def __init__(self, source: Path, root: Path) -> None:
        self.root = root
        # Kept from one go to the next: without it mypy would read every library again.
        self._mypy_cache = source / ".mypy_cache" / "planted"
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=source, check=True, capture_output=True).stdout.decode().split("\0")
        for name in filter(None, names):
            if (source / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / name, root / name)
        self._check_origin()

    @contextmanager
    def planted(self, plant: Plant) -> Iterator[None]:
        """Have a bug in the tree for a while.

        Raises:
            Misfit: When it does not apply.
            Unfit: When the tree does not import, or ruff or mypy object.
        """
        changed = plant.applied(self.root)
        before = {path: path.read_text() for path in changed}
        try:
            for path, content in changed.items():
                path.write_text(content)
            self._check_code([path.relative_to(self.root) for path in changed])
            yield
        finally:
            for path, content in before.items():
                path.write_text(content)

    def check(self) -> None:
        """Check the tree as it is, as a planted bug is checked.

        Raises:
            Unfit: When it does not import, or ruff or mypy object.
        """
        self._check_code([Path(floor) for floor in _FLOORS])

    def run(self, tests: Sequence[str]) -> dict[str, str]:
        """Run tests; return what became of each case: empty when it passed, otherwise how it failed.

        Raises:
            Unfit: When they could not be run, or a case came to no verdict.
        """
        report = self.root / "report.xml"
        report.unlink(missing_ok=True)
        arguments = ["-q", "-p", "no:cacheprovider", f"--rootdir={self.root}", f"--junitxml={report}"]
        done = self._python("-m", "pytest", *arguments, *tests, timeout=_LONGEST * len(tests))
        if not report.exists():
            raise Unfit(f"pytest came to no end:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        found = {}
        for case in ElementTree.parse(report).iter("testcase"):
            found[f"{case.get('classname')}::{case.get('name')}"] = _verdict(case)
        if not found:
            raise Unfit(f"no test was run:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        return found

    def _check_origin(self) -> None:
        """Make sure that it is the copy that is tested, in subprocesses too, and not what is installed."""
        code = (
            f"import {', '.join(_FLOORS)}; print(*({', '.join(f'{floor}.__file__' for floor in _FLOORS)},), sep='\\n')"
        )
        found = self._python("-P", "-c", code).stdout.split()
        if len(found) != len(_FLOORS) or not all(Path(path).is_relative_to(self.root) for path in found):
            raise Unfit(f"these would be tested instead of the copy: {found}")

    def _check_code(self, changed: Sequence[Path]) -> None:
        modules = [".".join(path.with_suffix("").parts) for path in changed]
        files = [str(path) for path in changed]
        for arguments in (
            ("-c", "import sys, importlib; [importlib.import_module(name) for name in sys.argv[1:]]", *modules),
            ("-m", "ruff", "check", "--quiet", *files),
            ("-m", "mypy", f"--cache-dir={self._mypy_cache}"),
        ):
            done = self._python(*arguments)
            if done.returncode:
                raise Unfit(f"{' '.join(arguments[:3])} objects:\n{done.stdout}{done.stderr}")

    def _python(self, *arguments: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        # Not the long form, and no measured figures.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FAULTS")}
        environment |= {"PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, *arguments]
        try:
            return subprocess.run(
                command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise Unfit(f"{' '.join(arguments[:3])} came to no end within {timeout:.0f} s") from error


def _verdict(case: ElementTree.Element) -> str:
    """Return how a case failed, empty when it passed.

    Raises:
        Unfit: When it was skipped, or was kept from running.
    """
    failed = case.find("failure")
    if failed is None and case.find("error") is None and case.find("skipped") is None:
        return ""
    message = "" if failed is None else str(failed.get("message"))
    if failed is None or message.startswith(_NO_VERDICT):
        raise Unfit(f"{case.get('name')} came to no verdict:\n{ElementTree.tostring(case, encoding='unicode')[-3000:]}")
    return message.splitlines()[0]
