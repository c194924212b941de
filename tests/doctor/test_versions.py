"""What the doctor says of versions that work side by side."""

from __future__ import annotations

import pytest

from storage.checkups import onqueues, onversions
from storage.checkups.check import Verdict
from storage.contract.ids import new_id
from storage.contract.settings import Settings
from storage.database import SCHEMA_VERSION
from storage.releases import HERE, Release
from storage.stores import Stores
from tests.doctor.looking import outcomes
from tests.storage.builders import CARD, serve

NEW, NEWER, BEFORE = Release("1.4.0", "0020"), Release("1.4.1", "0020"), Release("1.3.9", "0019")


@pytest.mark.parametrize(
    ("living", "verdict", "words"),
    [
        ([], Verdict.OK, "Nobody"),
        ([NEW], Verdict.OK, "1.4.0 (schema 0020)"),
        ([NEW, NEW], Verdict.OK, "All that live are of version 1.4.0"),
        ([NEW, NEWER], Verdict.OK, "Two versions"),
        ([NEW, BEFORE, BEFORE], Verdict.WARNING, "2 processes are of the version before"),
        ([BEFORE], Verdict.WARNING, "One process is of the version before"),
        ([NEW, NEWER, BEFORE], Verdict.WARNING, "3 versions"),
        ([NEW, Release("1.2.0", "0018")], Verdict.WRONG, "One process is older than the database's schema 0020"),
        ([NEW, Release()], Verdict.WRONG, "older"),
    ],
)
def test_versions_are_judged_beside_each_other_and_beside_the_schema(
    living: list[Release], verdict: Verdict, words: str
) -> None:
    told = onversions.judge([(f"process {n}", release) for n, release in enumerate(living)], "0020")
    assert told.verdict is verdict and words in told.found
    if verdict is not Verdict.OK:
        # And each process is named beside its version, the oldest first, and what to do is said
        assert told.remedy and "estart" in told.remedy
        assert sum(line.count("process ") for line in told.details) == len(living)
        assert list(told.details) == sorted(told.details) or "an earlier version" in told.details[0]


def test_workers_and_services_of_other_versions_are_found(database_url: str, stores: Stores) -> None:
    def look() -> onversions.Outcome:
        return outcomes(onqueues.area(Settings(database_url=database_url, model=CARD.name)))["versions"]

    # Given a worker and a service of this version
    serve(stores)
    stores.services.note(new_id(), "apihost", 99)
    assert look().verdict is Verdict.OK and str(HERE) in look().found
    # When a worker of the version before is still there, then it is named
    before = Release("0.0.9", f"{int(SCHEMA_VERSION) - 1:04}")
    stores.workers.register(CARD, new_id(), "oldhost", 12, "cuda:1", release=before)
    told = look()
    assert told.verdict is Verdict.WARNING and "Restart" in str(told.remedy)
    assert "worker cuda:1 on oldhost (pid 12)" in told.details[0] and f"schema {before.schema}" in told.details[0]
    # When a service of yet another version comes, then there are too many
    stores.services.note(new_id(), "third", 98, Release("9.9.9", SCHEMA_VERSION))
    assert "3 versions" in look().found and "9.9.9" in "".join(look().details)
