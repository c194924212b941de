"""`python -m tests.faults.planted [NAME...]`: plants bugs, one at a time, and shows that the suite notices each.

The working tree is copied; in the copy each bug must import, pass ruff and mypy --strict, and then make one named test
fail that passes without it. The table goes to `tests/faults/results/planted.jsonl`; the exit code is 1 when a bug was
not caught, 2 when one could not be planted.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.faults.plants.everything import PLANTS
from tests.faults.plants.plant import Misfit, Plant
from tests.faults.plants.treecopy import Copy, Unfit
from tests.faults.stamps import stamp

_ROOT = Path(__file__).parents[2]
_TABLE = _ROOT / "tests/faults/results/planted.jsonl"


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one planted bug.

    Args:
        patch: Its name.
        breaks: What is gone with it.
        test: Which test had to notice.
        caught: Whether it did.
        how: How the first failing case ended.
        seconds: How long checking and testing took.
    """

    patch: str
    breaks: str
    test: str
    caught: bool
    how: str
    seconds: float


def main(names: Sequence[str]) -> int:
    """Plant bugs and write the table.

    Args:
        names: Which; none means all. The rows of others stay in the table as they are.
    """
    unknown = set(names) - {plant.name for plant in PLANTS}
    if unknown:
        print(f"there is no planted bug of the name {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    plants = [plant for plant in PLANTS if not names or plant.name in names]
    caught = 0
    with tempfile.TemporaryDirectory(prefix="plants-") as folder:
        try:
            for row in _rows(Path(folder), plants):
                _keep(row)
                caught += row.caught
        except (Misfit, Unfit) as error:
            print(error, file=sys.stderr)
            return 2
    print(f"{caught} of {len(plants)} planted bugs were caught")
    return 0 if caught == len(plants) else 1


def _rows(folder: Path, plants: Sequence[Plant]) -> Iterator[Row]:
    """Yield what becomes of each bug, once all apply and the same tests have passed without any.

    Raises:
        Misfit: When one does not apply.
        Unfit: When a test fails without any.
    """
    copy = Copy(_ROOT, folder)
    for plant in plants:
        plant.applied(copy.root)
    copy.check()
    failed = {case: how for case, how in copy.run(sorted({plant.test for plant in plants})).items() if how}
    if failed:
        raise Unfit(f"these fail without any planted bug: {failed}")
    for plant in plants:
        began = time.monotonic()
        caught, how = _look_for(plant, copy)
        yield Row(plant.name, plant.breaks, plant.test, caught, how, round(time.monotonic() - began, 1))


def _look_for(plant: Plant, copy: Copy) -> tuple[bool, str]:
    try:
        with copy.planted(plant):
            failed = [how for how in copy.run([plant.test]).values() if how]
    except Unfit as error:
        return False, str(error)
    return bool(failed), failed[0] if failed else "its test passed"


def _keep(row: Row) -> None:
    """Print a row, and put it into the table in its place."""
    told = "caught" if row.caught else "NOT CAUGHT"
    print(f"{told:<12}{row.patch:<34}{row.seconds:6.1f} s  {row.test}", flush=True)
    if not row.caught:
        print(row.how, flush=True)
    known = [json.loads(line) for line in _TABLE.read_text().splitlines()] if _TABLE.exists() else []
    by_name = {one["patch"]: one for one in known} | {row.patch: asdict(row) | stamp()}
    _TABLE.parent.mkdir(exist_ok=True)
    lines = [json.dumps(by_name[plant.name]) for plant in PLANTS if plant.name in by_name]
    _TABLE.write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Plant bugs and show that the suite notices each.")
    parser.add_argument("name", nargs="*", help="only these")
    sys.exit(main(parser.parse_args().name))
