"""What `make cluster-test` installs in an older cluster is the chart, but for what that cluster does not know."""

from __future__ import annotations

import copy

from tests.chart.rendering import of_kind, pods, render
from tests.cluster.older import OLDEST, convert, told


def test_an_older_cluster_gets_what_it_knows() -> None:
    # Given a whole installation, when it is converted for the version that the log is of
    objects = copy.deepcopy(render())
    for one in objects:
        convert(one, 20)
    # Then budgets are of the version before, and the api still waits before it stops
    budgets = of_kind(objects, "PodDisruptionBudget")
    assert budgets and {one["apiVersion"] for one in budgets} == {"policy/v1beta1"}
    assert not [one for one in budgets if "unhealthyPodEvictionPolicy" in one["spec"]]
    (container,) = pods(objects)["mill-embedmill-api"][1]["containers"]
    assert container["lifecycle"] == {
        "preStop": {"exec": {"command": ["python", "-c", "import time; time.sleep(5)"]}},
    }
    # And nothing else has changed: undone, it is what was rendered
    container["lifecycle"] = {"preStop": {"sleep": {"seconds": 5}}}
    for one in budgets:
        one["apiVersion"] = "policy/v1"
        one["spec"]["unhealthyPodEvictionPolicy"] = "AlwaysAllow"
    assert objects == render()
    assert len(told(20)) == 4


def test_a_cluster_that_the_chart_takes_gets_the_chart() -> None:
    objects = copy.deepcopy(render())
    for one in objects:
        convert(one, OLDEST)
    assert objects == render() and not told(OLDEST)
