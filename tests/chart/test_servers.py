"""How pods are told where the servers are: from files that a Secret is mounted as, or from their environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chart.cases import CASES, ROLES
from tests.chart.rendering import Object, named, of_kind, pods, render

_PARTS = ("-api", "-worker-cpu", "-reconciler", "-migration")


@pytest.mark.parametrize("case", CASES)
def test_no_secret_stands_in_an_object(case: str) -> None:
    objects = render(CASES[case])
    assert not of_kind(objects, "Secret")
    for name, (_, pod) in pods(objects).items():
        for container in pod["containers"]:
            for variable in container.get("env", []):
                if variable["name"] in ("EMBEDMILL_REDIS_URL", "EMBEDMILL_DATABASE_URL", "HF_TOKEN"):
                    assert set(variable) == {"name", "valueFrom"}, name
                    assert set(variable["valueFrom"]) == {"secretKeyRef"}, name


@pytest.mark.parametrize("case", CASES)
def test_by_default_no_environment_holds_a_secret(case: str) -> None:
    values = CASES[case]
    for name, (_, pod) in pods(render(values)).items():
        for container in pod["containers"]:
            of_secrets = [one["name"] for one in container.get("env", []) if "secretKeyRef" in one.get("valueFrom", {})]
            assert bool(of_secrets) is (values.get("servers", {}).get("asFiles") is False and "-test" not in name), name


@pytest.mark.parametrize("as_files", [True, False])
def test_each_side_may_have_a_role_of_its_own_in_the_database(as_files: bool) -> None:
    objects = render({"servers": {**ROLES, "databaseKey": "api-url", "asFiles": as_files}})
    assert {part: asked(objects, part, "database") for part in _PARTS} == {
        "-api": "api-url",
        "-worker-cpu": "worker-database-url",
        "-reconciler": "worker-database-url",
        "-migration": "owner-database-url",
    }
    (container,) = pods(objects)["mill-embedmill-migration"][1]["containers"]
    told = {one["name"]: one.get("value") for one in container["env"]}
    assert (told["EMBEDMILL_API_ROLE"], told["EMBEDMILL_WORKER_ROLE"]) == ("embedmill_api", "embedmill_worker")


@pytest.mark.parametrize("as_files", [True, False])
def test_workers_may_have_a_user_of_redis_of_their_own(as_files: bool) -> None:
    objects = render({"servers": {"workerRedisKey": "worker-redis-url", "asFiles": as_files}})
    assert {part: asked(objects, part, "redis") for part in _PARTS[:3]} == {
        "-api": "redis-url",
        "-worker-cpu": "worker-redis-url",
        "-reconciler": "worker-redis-url",
    }


def test_another_program_may_bring_the_urls_as_files() -> None:
    # Given files that extraEnv names for the api, and no Secret
    files = {"EMBEDMILL_REDIS_URL_FILE": "/vault/redis", "EMBEDMILL_DATABASE_URL_FILE": "/vault/database"}
    given = [{"name": name, "value": path} for name, path in files.items()]
    found = pods(render({"api": {"extraEnv": given}}))
    (container,) = found["mill-embedmill-api"][1]["containers"]
    told = [(one["name"], one.get("value")) for one in container["env"] if "_URL" in one["name"]]
    # Then the pod is told of them alone
    assert sorted(told) == sorted(files.items())
    # And starts without the Secret, as all do, whose program names the file that is missing
    for name, (_, pod) in found.items():
        mounted = [one["secret"] for one in pod.get("volumes", []) if one["name"] == "embedmill-servers"]
        assert [one["optional"] for one in mounted] == ([] if "-test" in name else [True]), name


@pytest.mark.parametrize("part", ["api", "reconciler", "migration", "worker"])
def test_volumes_of_others_may_be_called_servers_and_hub(part: str) -> None:
    extra = [{"name": name, "emptyDir": {}} for name in ("servers", "hub")]
    group: Object = {"name": "cpu", "hub": {"existingSecret": "hub", "tokenKey": "word"}}
    values = {part: {"extraVolumes": extra}} if part != "worker" else {"workers": [group | {"extraVolumes": extra}]}
    found = pods(render(values))
    (pod,) = [pod for name, (_, pod) in found.items() if f"-{part}" in name and "-test" not in name]
    names = [one["name"] for one in pod["volumes"]]
    assert {"servers", "hub"} <= set(names) and len(names) == len(set(names))


def test_a_hub_s_token_is_a_file_too_where_the_hub_s_library_looks_for_it(tmp_path: Path) -> None:
    # Given a group with a token
    group = {"name": "cpu", "hub": {"existingSecret": "hub", "tokenKey": "word"}}
    (_, pod) = pods(render({"workers": [group]}))["mill-embedmill-worker-cpu"]
    (container,) = pod["containers"]
    told = {one["name"]: one.get("value") for one in container["env"]}
    (volume,) = [one for one in pod["volumes"] if one["name"] == "embedmill-hub"]
    (mount,) = [one for one in container["volumeMounts"] if one["name"] == "embedmill-hub"]
    assert volume["secret"] == {"secretName": "hub", "items": [{"key": "word", "path": "token"}]}
    assert told["HF_TOKEN_PATH"] == f"{mount['mountPath']}/token" and "HF_TOKEN" not in told
    # Then the library finds it there
    (tmp_path / "token").write_text("hf_word\n")
    ask = "from huggingface_hub import get_token; print(get_token())"
    others = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment = others | {"HF_TOKEN_PATH": str(tmp_path / "token"), "HF_HOME": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, timeout=100)
    assert found.stdout.strip() == "hf_word", found.stderr


@pytest.mark.parametrize("case", CASES)
def test_the_migration_s_log_stays_and_goes_in_the_end(case: str) -> None:
    for job in of_kind(render(CASES[case]), "Job"):
        # A hook that went with its success would take along what it says of the schema
        assert job["metadata"]["annotations"]["helm.sh/hook-delete-policy"] == "before-hook-creation"
        assert job["spec"]["ttlSecondsAfterFinished"] >= 60


def asked(objects: list[Object], part: str, server: str) -> str:
    """Return the Secret's entry that a part has a server's URL from; it must be told it in one way alone."""
    kind = "Job" if part == "-migration" else "Deployment"
    pod = named(objects, kind, part)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    told = {one["name"]: one for one in container["env"] if one["name"].startswith(f"EMBEDMILL_{server.upper()}_URL")}
    ((name, variable),) = told.items()
    if not name.endswith("_FILE"):
        reference = variable["valueFrom"]["secretKeyRef"]
        assert reference["name"] == "embedmill-servers"
        return str(reference["key"])
    (mount,) = [one for one in container["volumeMounts"] if variable["value"].startswith(one["mountPath"] + "/")]
    (volume,) = [one for one in pod["volumes"] if one["name"] == mount["name"]]
    assert mount["readOnly"] is True and volume["secret"]["secretName"] == "embedmill-servers"
    files = {item["path"]: item["key"] for item in volume["secret"]["items"]}
    return str(files[variable["value"].removeprefix(mount["mountPath"] + "/")])
