"""What the objects are together: safe pods, selectors that find them, policies that let through what is needed."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.chart.cases import CASES, CLAIMS, GPU, SCALED
from tests.chart.rendering import ROOT, Object, named, of_kind, pods, render, selected


@pytest.fixture(scope="module", params=list(CASES))
def objects(request: pytest.FixtureRequest) -> list[Object]:
    """Every installation in turn."""
    return render(CASES[request.param])


def test_every_pod_is_locked_down(objects: list[Object]) -> None:
    for name, (_, pod) in pods(objects).items():
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["enableServiceLinks"] is False, name
        whole = pod["securityContext"]
        assert whole["runAsNonRoot"] is True and whole["runAsUser"] >= 10_000, name
        assert whole["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["containers"]:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False and own["readOnlyRootFilesystem"] is True, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
            assert not own.get("privileged"), name
            resources = container["resources"]
            assert "memory" in resources["limits"] and "memory" in resources["requests"], name
            assert "cpu" in resources["requests"], name
            # What is not read-only is a volume of its own.
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounted == {volume["name"] for volume in pod.get("volumes", [])}, name
        assert not pod.get("hostNetwork") and not pod.get("hostPID") and not pod.get("hostIPC"), name
        assert not [volume for volume in pod.get("volumes", []) if "hostPath" in volume], name


def test_whoever_serves_is_watched_and_gets_time_to_stop(objects: list[Object]) -> None:
    for name, (labels, pod) in pods(objects).items():
        component = labels["app.kubernetes.io/component"]
        if component != "api" and not component.startswith("worker-"):
            continue
        (container,) = pod["containers"]
        ports = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"]["port"] in ports, name
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz", name
        settings = {one["name"]: one.get("value") for one in container["env"]}
        # What a worker needs at most: the grace of its chunks, and ten seconds to give back what is left.
        grace = float(settings.get("EMBEDMILL_STOP_GRACE") or 0) + 10
        assert pod["terminationGracePeriodSeconds"] > grace, name


def test_selectors_find_their_own_pods_and_no_others(objects: list[Object]) -> None:
    made = {name: labels for name, (labels, _) in pods(objects).items()}
    for one in objects:
        kind, name = one["kind"], one["metadata"]["name"]
        if kind in ("Deployment", "PodDisruptionBudget"):
            assert selected(one["spec"]["selector"], made) == [name], (kind, name)
        elif kind == "Service":
            assert selected({"matchLabels": one["spec"]["selector"]}, made) == [name]
            (_, pod) = pods(objects)[name]
            ports = {port["name"] for container in pod["containers"] for port in container["ports"]}
            assert {port["targetPort"] for port in one["spec"]["ports"]} <= ports
        elif kind == "ScaledObject":
            target = named(objects, "Deployment", one["spec"]["scaleTargetRef"]["name"])
            # An upgrade must not set back what the autoscaler has decided.
            assert "replicas" not in target["spec"]
            assert one["spec"]["minReplicaCount"] <= one["spec"]["maxReplicaCount"]
    for pod in (pod for _, pod in pods(objects).values()):
        for constraint in pod.get("topologySpreadConstraints", []):
            assert "labelSelector" not in constraint or len(selected(constraint["labelSelector"], made)) == 1


def test_a_group_of_workers_has_the_devices_and_the_place_that_it_names() -> None:
    objects = render({"workers": [GPU, CLAIMS]})
    _, pod = pods(objects)["mill-embedmill-worker-bge-h100"]
    (container,) = pod["containers"]
    # Its resources are its own as a whole: no processor limit of the defaults throttles a GPU's host
    assert container["resources"] == GPU["resources"]
    assert (pod["nodeSelector"], pod["tolerations"]) == (GPU["nodeSelector"], GPU["tolerations"])
    assert (pod["runtimeClassName"], pod["priorityClassName"]) == ("nvidia", "batch")
    assert _env(container)["EMBEDMILL_TOKEN_BUDGET"] == "65536"
    # And one whose models lie on a shelf asks no hub
    _, pod = pods(objects)["mill-embedmill-worker-shelf"]
    (container,) = pod["containers"]
    assert _env(container)["HF_HUB_OFFLINE"] == "1"
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in container["volumeMounts"]
    assert _env(named_container(objects, "-api"))["EMBEDMILL_MODEL"] == GPU["model"]


def test_what_a_pod_writes_has_a_place_and_a_limit() -> None:
    objects = render({"api": {"scratch": {"sizeLimit": "3Gi"}}})
    for name, (_, pod) in pods(objects).items():
        limits = {one["name"]: one["emptyDir"]["sizeLimit"] for one in pod.get("volumes", []) if "emptyDir" in one}
        (container,) = pod["containers"]
        written = {one["name"] for one in container.get("volumeMounts", []) if not one.get("readOnly")}
        assert limits.keys() == written, name
        if name.endswith("-api"):
            # Files that are made before they are sent lie where there is room
            assert limits["data"] == "3Gi" and _env(container)["TMPDIR"] == "/data"


def test_large_numbers_are_written_out() -> None:
    # Helm reads numbers as floats: 20000000 would come out as 2e+07
    objects = render({"settings": {"maxTextBytes": 20_000_000}, "workers": [SCALED]})
    assert _env(named_container(objects, "-api"))["EMBEDMILL_MAX_TEXT_BYTES"] == "20000000"
    (trigger,) = named(objects, "ScaledObject", "bge-h100")["spec"]["triggers"]
    assert trigger["metadata"]["targetValue"] == "40000000"


@pytest.mark.parametrize(
    ("settings", "told"),
    [({}, {}), ({"keepDays": "forever", "keepTextsDays": 7}, {"KEEP_DAYS": "forever", "KEEP_TEXTS_DAYS": "7"})],
)
def test_how_long_jobs_are_kept_is_told_where_it_is_said(settings: Object, told: dict[str, str]) -> None:
    environment = _env(named_container(render({"settings": settings}), "-api"))
    assert {name: environment.get(f"EMBEDMILL_{name}") for name in told} == told
    assert len([name for name in environment if "KEEP" in name]) == len(told)


def test_prometheus_calls_its_jobs_as_the_alert_rules_do() -> None:
    # Given an installation that Prometheus' operator watches, whose name for a job would be the Service's
    objects = render(CASES["watched by Prometheus"])
    (services,) = of_kind(objects, "ServiceMonitor")
    (machines,) = of_kind(objects, "PodMonitor")
    called = {
        rule["replacement"]
        for endpoint in (*services["spec"]["endpoints"], *machines["spec"]["podMetricsEndpoints"])
        for rule in endpoint["relabelings"]
        if rule["targetLabel"] == "job"
    }
    # Then it has the name that the rules ask for
    asked = set(re.findall(r'job="([^"]+)"', (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text("utf-8")))
    assert asked and asked <= called


def test_rules_and_dashboard_are_those_of_the_repository() -> None:
    # (a chart holds its own files alone: after a change, copy them into deploy/helm/embedmill/files)
    objects = render(CASES["watched by Prometheus"])
    (rules,) = of_kind(objects, "PrometheusRule")
    assert rules["spec"] == yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text("utf-8"))
    dashboard = (ROOT / "deploy" / "grafana" / "dashboards" / "embedmill.json").read_text("utf-8")
    (config,) = of_kind(objects, "ConfigMap")
    assert config["data"] == {"embedmill.json": dashboard}
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_a_variable_of_ones_own_takes_the_place_of_the_charts() -> None:
    extra = [{"name": "TMPDIR", "value": "/scratch"}, {"name": "EMBEDMILL_LOG_LEVEL", "value": "DEBUG"}]
    values = {"api": {"extraEnv": extra}, "workers": [{"name": "cpu", "extraEnv": extra[1:]}]}
    objects = render(values)
    for ending, wanted in (("-api", extra), ("-worker-cpu", extra[1:])):
        names = [one["name"] for one in named_container(objects, ending)["env"]]
        assert len(set(names)) == len(names)
        told = _env(named_container(objects, ending))
        assert all(told[one["name"]] == one["value"] for one in wanted)


def test_a_pod_with_gpus_never_serves_on_its_cpu_and_one_without_sees_none() -> None:
    claims = {"requests": {"cpu": "2"}, "claims": [{"name": "gpu"}]}
    groups = [{"name": "bare", "devices": "auto"}, GPU, {"name": "claims", "devices": "auto", "resources": claims}]
    objects = render({"workers": groups})
    bare, gpu, claimed = (_env(named_container(objects, f"-worker-{group['name']}")) for group in groups)
    assert (bare["EMBEDMILL_DEVICES"], bare["NVIDIA_VISIBLE_DEVICES"]) == ("auto", "void")
    assert (gpu["EMBEDMILL_DEVICES"], "NVIDIA_VISIBLE_DEVICES" in gpu) == ("gpus", False)
    # What a claim gives nobody can tell from here
    assert claimed["EMBEDMILL_DEVICES"] == "auto" and "NVIDIA_VISIBLE_DEVICES" not in claimed


def test_pods_listen_and_are_called_as_the_cluster_needs_it_and_start_anew_when_told() -> None:
    objects = render(CASES["a cluster of IPv6, with sidecars"])
    api, worker = named_container(objects, "-api"), named_container(objects, "-worker-cpu")
    assert api["args"][:3] == ["api", "--host", "::"] and _env(worker)["EMBEDMILL_HEALTH_HOST"] == "::"
    assert "mill-embedmill-api.embed.svc.mill.internal" in str(_env(api)["EMBEDMILL_HOSTS"]).split(",")
    annotations = {name: pod["metadata"].get("annotations", {}) for name, pod in templates(objects).items()}
    assert len(annotations) == 4
    assert {found["embedmill/restarted-for"] for found in annotations.values()} == {"the database's new password"}
    assert annotations["mill-embedmill-migration"]["sidecar.istio.io/inject"] == "false"
    evictable = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
    assert {name for name, found in annotations.items() if evictable in found} == set(annotations) - {
        "mill-embedmill-migration"
    }


def test_the_migration_needs_nothing_of_the_release_that_it_comes_before() -> None:
    (job,) = of_kind(render(), "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    pod = job["spec"]["template"]["spec"]
    assert "serviceAccountName" not in pod
    (container,) = pod["containers"]
    assert "envFrom" not in container and container["args"] == ["migrate"]


def templates(objects: list[Object]) -> dict[str, Object]:
    """Return what pods are made of, by the name of their Deployment or Job."""
    return {one["metadata"]["name"]: one["spec"]["template"] for one in objects if one["kind"] in ("Deployment", "Job")}


def named_container(objects: list[Object], ending: str) -> Object:
    """Return the container of the deployment whose name ends so."""
    (container,) = named(objects, "Deployment", ending)["spec"]["template"]["spec"]["containers"]
    found: Object = container
    return found


def _env(container: Object) -> dict[str, Any]:
    return {one["name"]: one.get("value") for one in container["env"]}
