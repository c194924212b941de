"""Policies let through what is needed, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.cases import CASES, PEER
from tests.chart.rendering import Object, named, of_kind, pods, render, selected
from tests.chart.test_objects import named_container


@pytest.mark.parametrize("case", CASES)
def test_a_network_policy_holds_every_pod(case: str) -> None:
    objects = render(CASES[case])
    policies = of_kind(objects, "NetworkPolicy")
    if not policies:
        return
    made = {name: labels for name, (labels, _) in pods(objects).items()}
    held = [name for policy in policies for name in selected(policy["spec"]["podSelector"], made)]
    assert sorted(held) == sorted(made)
    for policy in policies:
        ports = _ports(policy["spec"]["egress"])
        assert 53 in ports and {"TCP", "UDP"} <= {kind for kind, port in _each(policy["spec"]["egress"]) if port == 53}
        asks_servers = not policy["metadata"]["name"].endswith("-test")
        assert bool(ports & {6379} and ports & {5432, 6432}) is asks_servers


def test_a_tight_policy_lets_workers_reach_the_servers_alone() -> None:
    objects = render(CASES["a tight network policy"])
    workers = named(objects, "NetworkPolicy", "-workers")["spec"]
    assert _ports(workers["egress"]) == {53, 5353, 6379, 26379, 6432, 4317}
    assert all(rule.get("to") for rule in workers["egress"] if not _ports([rule]) <= {53, 5353})
    # And the service is reached by whom the operator named, by the autoscaler, by Prometheus and by `helm test`
    (rule,) = named(objects, "NetworkPolicy", "-api")["spec"]["ingress"]
    assert len(rule["from"]) == 4


def test_the_migrations_policy_comes_before_it_with_every_upgrade() -> None:
    objects = render()
    (job,) = of_kind(objects, "Job")
    policy = named(objects, "NetworkPolicy", "-migration")
    hooks = {one["kind"]: one["metadata"]["annotations"] for one in (job, policy)}
    assert hooks["NetworkPolicy"]["helm.sh/hook"] == hooks["Job"]["helm.sh/hook"]
    assert int(hooks["NetworkPolicy"]["helm.sh/hook-weight"]) < int(hooks["Job"]["helm.sh/hook-weight"])


def test_helm_test_reaches_the_service_where_nothing_is_let_out_by_default() -> None:
    # Given the pod of `helm test`, and its policy, which is made before it with each test
    objects = render()
    pod, policy = (named(objects, kind, "-test") for kind in ("Pod", "NetworkPolicy"))
    hooks = {one["kind"]: one["metadata"]["annotations"] for one in (pod, policy)}
    assert {one["helm.sh/hook"] for one in hooks.values()} == {"test"}
    assert int(hooks["NetworkPolicy"]["helm.sh/hook-weight"]) < int(hooks["Pod"].get("helm.sh/hook-weight", 0))
    # Then it may ask for names, and the api's pods at the port where they listen, and nobody else
    dns, api = policy["spec"]["egress"]
    assert _ports([dns]) == {53, 5353}
    (peer,) = api["to"]
    made = {name: labels for name, (labels, _) in pods(objects).items()}
    assert selected(peer["podSelector"], made) == ["mill-embedmill-api"]
    assert _ports([api]) == {port["containerPort"] for port in named_container(objects, "-api")["ports"]}
    assert not policy["spec"].get("ingress")


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("http://collector.monitoring:4318", 4318),
        ("https://traces.example.org/otlp", 443),
        ("http://collector", 80),
        ("http://[fd00::7]:4317", 4317),
    ],
)
def test_traces_go_to_the_collector_that_was_named(endpoint: str, port: int) -> None:
    objects = render({"settings": {"otlpEndpoint": endpoint}, "workers": [{"name": "cpu"}, {"name": "more"}]})
    for part, policy in (("api", "api"), ("worker-cpu", "workers"), ("worker-more", "workers"), ("reconciler",) * 2):
        # Each part that makes spans is told where to
        told = {one["name"]: one.get("value") for one in named_container(objects, f"-{part}")["env"]}
        assert told["OTEL_EXPORTER_OTLP_ENDPOINT"] == endpoint
        # And let out to there
        egress = named(objects, "NetworkPolicy", f"-{policy}")["spec"]["egress"]
        assert [rule for rule in egress if rule == {"ports": [{"protocol": "TCP", "port": port}]}]
    # And nobody is where none was named
    bare = render()
    assert not [one for one in named_container(bare, "-api")["env"] if one["name"].startswith("OTEL_")]
    assert 4318 not in _ports(named(bare, "NetworkPolicy", "-api")["spec"]["egress"])


def test_the_collector_s_place_may_be_narrowed() -> None:
    objects = render(CASES["traces to a collector"])
    wanted = {"ports": [{"protocol": "TCP", "port": 14318}], "to": [PEER]}
    for policy in ("api", "workers", "reconciler"):
        assert wanted in named(objects, "NetworkPolicy", f"-{policy}")["spec"]["egress"]


def _each(rules: list[Object]) -> set[tuple[str, Any]]:
    return {(port["protocol"], port["port"]) for rule in rules for port in rule.get("ports", [])}


def _ports(rules: list[Object]) -> set[Any]:
    return {port for _, port in _each(rules)}
