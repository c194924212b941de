from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.faults.forms import full, scenario
from tests.faults.goals import missed_by_nemesis, missed_by_soak
from tests.faults.nemesis import Nemesis, waste_of
from tests.faults.recoveries import spread
from tests.faults.strokes import WEIGHTS, stroke, strokes
from tests.faults.struck import struck_mill

#: What each defence has counted in a run in which none slept.
AWAKE = dict.fromkeys(
    ("leases_expired", "leases_released", "messages_resent", "commits_late", "messages_dropped", "workers_died"), 3
)

FLAT = {"samples": 100, "grown_mib": 1.5, "grown_descriptors": 1}


def test_a_fault_of_a_seed_is_the_same_in_any_run_and_another_in_another_seed() -> None:
    # Given a run from the beginning, and one that is taken up in the middle
    whole, later = list(strokes(5, 0, 60)), list(strokes(5, 40, 20))
    # Then what they share is the same, and a seed is not another one
    assert whole[40:] == later
    assert [each.number for each in whole] == list(range(60))
    assert whole != list(strokes(6, 0, 60))


def test_faults_come_as_often_as_their_weights_say_two_seconds_apart_on_average() -> None:
    # Given many faults
    many = list(strokes(1, 0, 20_000))
    # Then each kind has its share, and lasts only where there is something to undo
    counted = Counter(each.kind for each in many)
    for kind, weight in WEIGHTS.items():
        assert counted[kind] == pytest.approx(200 * weight, rel=0.25)
    assert {each.kind for each in many if not each.lasts} == {kind for kind in WEIGHTS if not stroke_lasts(kind)}
    assert sum(each.gap for each in many) / len(many) == pytest.approx(2.0, rel=0.05)
    assert all(0 <= each.target < 1 for each in many)


def stroke_lasts(kind: str) -> bool:
    return next(each.lasts > 0 for each in map(lambda number: stroke(2, number), range(5000)) if each.kind == kind)


def test_a_spread_tells_the_median_the_99th_percentile_and_the_greatest() -> None:
    # Given the numbers from one to two hundred, in disorder
    values = [float(number) for number in reversed(range(1, 201))]
    # Then they are those of nearest rank
    assert spread(values) == {"n": 200, "p50": 100, "p99": 198, "max": 200}
    assert spread([3.0]) == {"n": 1, "p50": 3.0, "p99": 3.0, "max": 3.0}
    assert spread([]) == {"n": 0}


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, []),
        ({"unrecovered": 2}, ["2 faults were not recovered from"]),
        ({"embedded_again": 11}, ["11 texts were embedded again, and only 10 were held"]),
        ({"counters": AWAKE | {"commits_late": 0}}, ["commits_late is 0"]),
        ({"counters": {"workers_died": 1}, "faults": 99}, []),
    ],
)
def test_a_nemesis_misses_what_was_not_recovered_wasted_or_never_defended(
    change: dict[str, Any], missed: list[str]
) -> None:
    # Given a run of many faults in which all was well, but for one thing
    well = {"faults": 100, "unrecovered": 0, "embedded_again": 10, "held": 10, "counters": AWAKE}
    # Then that is told
    assert missed_by_nemesis(well | change) == missed


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, []),
        ({"reconciler": FLAT | {"grown_mib": 8.1}}, ["reconciler grew by 8.1 MiB"]),
        ({"client": FLAT | {"grown_descriptors": 3}}, ["client has 3 descriptors more"]),
        ({"worker process": FLAT | {"samples": 70}}, ["worker process did not live through it"]),
        ({"supervisor": None}, ["supervisor did not live through it"]),
    ],
)
def test_a_soak_misses_whoever_grew_or_ended(change: dict[str, Any], missed: list[str]) -> None:
    # Given a soak in which nobody grew, but for one
    processes = {name: FLAT for name in ("supervisor", "client", "worker process", "reconciler")} | change
    # Then that one is told
    run = {"unrecovered": 0, "processes": {name: figures for name, figures in processes.items() if figures}}
    assert missed_by_soak(run) == missed


@scenario("F3")
@full
def test_a_few_random_faults_lose_double_and_waste_nothing() -> None:
    # Given a mill under steady load, and faults of a seed in which nearly every kind is met
    with struck_mill("sqlite") as mill:
        nemesis = Nemesis(mill, room=3_000)
        # When they strike, one after another
        nemesis.strike_all(strokes(2841, 0, 8))
        # Then all is recovered from, and only what was held is embedded again
        mill.wait_complete()
        wasted = waste_of(mill)
        assert all(recovery.is_over for recovery in nemesis.recoveries)
        assert {recovery.kind.split()[0] for recovery in nemesis.recoveries} == {
            "child", "worker", "producer", "redis", "database"
        }  # fmt: skip
        assert wasted <= nemesis.held
        # And the defences were at work; whether a message was on its way when Redis lost all it had is left to chance,
        # and tests of its own see to that
        mill.wait_counted("workers_died")
