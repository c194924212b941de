"""The planted bugs fit the code as it is; `python -m tests.faults.planted` shows that each is caught."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.faults.plants.everything import PLANTS
from tests.faults.plants.plant import Edit, Misfit, Plant

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_a_planted_bug_still_applies_and_its_test_still_exists(plant: Plant) -> None:
    # Given the code as it is, then the bug changes it into other code that can be read
    for path, content in plant.applied(ROOT).items():
        assert content != path.read_text()
        ast.parse(content)
    # And the test that must notice is there
    file, _, name = plant.test.partition("::")
    assert f"def {name}(" in (ROOT / file).read_text()


def test_every_planted_bug_has_a_name_of_its_own() -> None:
    names = [plant.name for plant in PLANTS]
    assert len(set(names)) == len(names) >= 16


def test_a_bug_that_no_longer_applies_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mill.py").write_text("turn()\nturn()\n")
    for old in ("turn()\n", "stop()\n"):
        with pytest.raises(Misfit, match=r"mill\.py"):
            Plant("bug", "everything", "", (Edit("mill.py", old, ""),)).applied(tmp_path)
