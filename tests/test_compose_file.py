"""What docker-compose.yml promises of every container, read from the file: no engine is needed."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
#: The image that a Dockerfile's target is called.
IMAGES = {"base": "embedmill-base", "worker": "embedmill-worker"}

every_service = pytest.mark.parametrize("name", SERVICES)


def default(value: str) -> str:
    """Return a value as it is where nobody set a variable."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


@every_service
def test_a_container_may_do_nothing_but_its_work(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"] and "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "network_mode", "pid", "ipc", "devices"} & set(service)


@every_service
def test_a_container_does_not_run_as_root(name: str) -> None:
    service = SERVICES[name]
    # Our own images say so themselves, in a number, which an orchestrator can check
    ours = default(service["image"]).partition(":")[0] in IMAGES.values()
    assert (ours and "user" not in service) or service["user"] in ("redis", "postgres", "nobody", "472")
    last = re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)[-1]
    assert last == "10001:10001"


@every_service
def test_a_container_is_held_to_limits(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"\d+[mg]", default(service["mem_limit"])) and service["pids_limit"] > 0
    assert float(default(str(service["cpus"]))) >= 0
    assert int(service["logging"]["options"]["max-file"]) > 0
    # What it may write to besides its volumes is held in memory, and small
    assert all("size=" in mount for mount in service["tmpfs"])


@every_service
def test_a_container_that_serves_is_asked_for_its_health_and_has_time_to_stop(name: str) -> None:
    service = SERVICES[name]
    if name in ("roles", "migrate", "cli"):
        assert service["restart"] == "no"
        return
    assert service["healthcheck"]["test"] and service["healthcheck"]["retries"] > 1
    assert int(service["stop_grace_period"].removesuffix("s")) >= 20 and service["restart"] == "unless-stopped"


@every_service
def test_no_password_stands_in_the_file(name: str) -> None:
    service = SERVICES[name]
    for variable, value in service.get("environment", {}).items():
        if "PASSWORD" in variable:
            assert variable.endswith("_FILE") and value.startswith("/run/secrets/")
            assert value.removeprefix("/run/secrets/") in service["secrets"]
        assert not re.search(r"://[^/@]*:[^/@]*@", str(value)), "a URL with a password"
    assert not service.get("env_file")


@every_service
def test_an_image_is_of_one_version(name: str) -> None:
    image = default(SERVICES[name]["image"])
    repository, _, tag = image.partition(":")
    assert re.search(r"\d+\.\d+", tag), image
    if repository in IMAGES.values():
        assert tag == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        # Nobody else has it: asked for, a registry would only say so, or hand out what is not ours
        assert SERVICES[name]["pull_policy"] == "never"
    if "build" in SERVICES[name]:
        build = SERVICES[name]["build"]
        assert (repository, tag) == (IMAGES[build["target"]], default(build["args"]["VERSION"]))
        assert f"ARG PYTHON={default(build['args']['PYTHON'])}\n" in DOCKERFILE


def test_an_image_is_built_by_one_service_for_which_those_wait_who_run_from_it() -> None:
    built = {default(one["image"]).partition(":")[0]: name for name, one in SERVICES.items() if "build" in one}
    assert built == {"embedmill-base": "migrate", "embedmill-worker": "worker"}
    assert len(built) == sum("build" in one for one in SERVICES.values())
    for name in ("api", "cli", "worker", "worker-gpu"):
        assert "migrate" in SERVICES[name]["depends_on"]


@every_service
def test_what_is_published_is_published_to_this_host_alone(name: str) -> None:
    published = SERVICES[name].get("ports", [])
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert bool(published) == (name in ("api", "prometheus", "grafana"))


@every_service
def test_every_file_that_is_mounted_is_there_and_read_only(name: str) -> None:
    for mount in SERVICES[name].get("volumes", []):
        source, _, rest = mount.partition(":")
        if source.startswith("."):
            assert rest.endswith(":ro") and (ROOT / source).is_dir()
        else:
            assert source in COMPOSE["volumes"]


def test_redis_and_postgres_are_on_a_network_without_a_way_out() -> None:
    assert COMPOSE["networks"]["data"] == {"internal": True}
    for name in ("redis", "postgres"):
        assert SERVICES[name]["networks"] == ["data"]


def test_each_service_has_the_role_in_postgres_that_its_work_needs() -> None:
    as_whom = {"api": "api", "worker": "worker", "worker-gpu": "worker", "migrate": "owner", "cli": "owner"}
    for name, role in as_whom.items():
        told = SERVICES[name]["environment"]
        assert told["EMBEDMILL_DATABASE_URL"].startswith(f"postgresql://embedmill_{role}@postgres:")
        assert told["EMBEDMILL_DATABASE_PASSWORD_FILE"] == f"/run/secrets/postgres_{role}_password"
        words = [secret for secret in SERVICES[name]["secrets"] if secret.startswith("postgres_")]
        assert words == [f"postgres_{role}_password"]
    # The migration grants these roles what they need, once they are there
    told = SERVICES["migrate"]["environment"]
    assert (told["EMBEDMILL_API_ROLE"], told["EMBEDMILL_WORKER_ROLE"]) == ("embedmill_api", "embedmill_worker")
    assert SERVICES["migrate"]["depends_on"] == {"roles": {"condition": "service_completed_successfully"}}
    # The administrator's password is nobody's but the server's, and that of whoever makes the roles
    assert {n for n, one in SERVICES.items() if "postgres_password" in one.get("secrets", ())} == {"postgres", "roles"}


def test_postgres_has_room_for_the_connections_of_every_scale_that_is_shown() -> None:
    from storage.checkups.onpostgres import _EACH

    told = dict(word.split("=", 1) for word in SERVICES["postgres"]["command"] if "=" in word)
    most = int(default(told["max_connections"]))
    pages = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("operations.md", "containers.md"))
    shown = [int(number) for number in re.findall(r"(?:--scale worker|EMBEDMILL_WORKERS)=(\d+)", pages)]
    assert max(shown) >= 4
    # Supervisor, worker and reconciler of each; an api, the command line a migration; and what the server keeps
    assert _EACH * (3 * max(shown) + 3) + 3 <= most
    # Each connection is a process; beside them it has a handful of its own
    assert most + 30 <= SERVICES["postgres"]["pids_limit"]


def test_redis_keeps_what_it_has_and_refuses_when_it_is_full() -> None:
    lines = (ROOT / "deploy/redis/redis.conf").read_text().splitlines()
    assert {"appendonly yes", "maxmemory-policy noeviction", "aclfile /tmp/users.acl"} <= set(lines)
    limit = next(int(line.split()[1].removesuffix("mb")) for line in lines if line.startswith("maxmemory "))
    assert limit < int(SERVICES["redis"]["mem_limit"].removesuffix("m"))


def test_a_worker_has_time_to_give_its_leases_back() -> None:
    from worker.settings import WorkerSettings
    from worker.supervisor import _LAST_WORDS

    for name in ("worker", "worker-gpu"):
        grace = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
        assert grace > WorkerSettings.model_fields["stop_grace"].default + _LAST_WORDS


def test_gpus_are_reserved_by_their_own_profile() -> None:
    (device,) = SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"] and "profiles" not in SERVICES["worker"]


def test_secrets_are_made_once_and_stay(tmp_path: Path) -> None:
    folder = tmp_path / "my secrets"
    command = ["sh", str(ROOT / "deploy/make-secrets.sh"), str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    made = {path.name: path.read_text() for path in folder.iterdir()}
    assert set(made) == {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()}
    assert all(re.fullmatch("[0-9a-f]{48}", word) for word in made.values()) and len(set(made.values())) == len(made)
    # The folder is its owner's alone, the files in it are for each container's user
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o444}
    # Run again, it changes nothing
    assert subprocess.run(command, check=True, capture_output=True, timeout=60).stdout == b""
    assert {path.name: path.read_text() for path in folder.iterdir()} == made


def test_grafana_finds_its_source_and_its_dashboards() -> None:
    provisioning = ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = yaml.safe_load((provisioning / "dashboards/embedmill.yml").read_text())["providers"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (ROOT / "deploy/grafana/dashboards" / home.name).is_file()


def test_prometheus_asks_every_service_that_has_metrics() -> None:
    settings = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    asked = {
        (name, place["port"])
        for job in settings["scrape_configs"]
        for place in job.get("dns_sd_configs", [])
        for name in place["names"]
    }
    assert asked == {("api", 8000), ("workers", 8080)}
    rules = [Path(place).name for place in settings["rule_files"]]
    assert all((ROOT / "deploy/prometheus" / name).is_file() for name in rules)
    for name in ("worker", "worker-gpu"):
        assert SERVICES[name]["networks"]["data"] == {"aliases": ["workers"]}
        assert SERVICES[name]["environment"]["EMBEDMILL_HEALTH_HOST"] == "0.0.0.0"


def test_redis_is_started_with_the_users_that_docs_tell_of_and_with_hashes_for_passwords(tmp_path: Path) -> None:
    # Given a copy of what is mounted, with the passwords' folder elsewhere, and a `redis-server` that only shows itself
    script = (ROOT / "deploy/redis/start.sh").read_text()
    script = script.replace("/run/secrets/", f"{tmp_path}/").replace("/tmp/users.acl", f"{tmp_path}/users.acl")
    (tmp_path / "start.sh").write_text(script)
    (tmp_path / "users.acl.example").write_text((ROOT / "deploy/redis/users.acl.example").read_text())
    (tmp_path / "redis-server").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "redis-server").chmod(0o755)
    words = {"worker": "grindstone", "producer": "millrace"}
    for user, word in words.items():
        (tmp_path / f"redis_{user}_password").write_text(f"{word}\n")
    # When it is run
    run = ["sh", str(tmp_path / "start.sh")]
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    shown = subprocess.run(run, env=path, check=True, capture_output=True, text=True, timeout=60).stdout
    # Then the server is given the users, each with its own rights and the hash of its own password
    assert shown == f"{tmp_path}/redis.conf\n"
    made = (tmp_path / "users.acl").read_text()
    example = (ROOT / "deploy/redis/users.acl.example").read_text()
    for user, word in words.items():
        digest = hashlib.sha256(word.encode()).hexdigest()
        line = next(line for line in example.splitlines() if line.startswith(f"user embedmill-{user} "))
        assert re.sub(r" >\S+", f" #{digest}", line) in made.splitlines()
    assert "change-this" not in made and made.startswith("user default off resetkeys ")
    assert stat.S_IMODE((tmp_path / "users.acl").stat().st_mode) == 0o600
    # And an empty password is refused
    (tmp_path / "redis_worker_password").write_text("")
    refused = subprocess.run(run, env=path, capture_output=True, text=True, timeout=60)
    assert refused.returncode != 0 and "is empty" in refused.stderr


def test_images_hold_what_the_locks_name_and_nothing_else() -> None:
    installs = [line for line in DOCKERFILE.replace("\\\n", " ").splitlines() if line.startswith("RUN")]
    steps = [step for line in installs for step in re.split("&&", line.removeprefix("RUN ")) if "pip install" in step]
    assert len(steps) == 6, steps
    for step in steps:
        # From a lock, by hashes; or our own wheel, with nothing from anywhere
        assert "--require-hashes" in step or ("--no-deps --no-index" in step and "/wheels/embedmill-" in step), step
    for lock in re.findall(r"-r /(locks/\S+)", DOCKERFILE):
        for torch in ("cuda", "cpu"):
            assert (ROOT / "deploy" / lock.replace("${TORCH}", torch)).is_file()


def test_the_page_tells_what_the_last_whole_run_has_measured() -> None:
    page, log = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("containers.md", "compose-test.log"))
    measured = re.findall(r"(embedmill-\w+):compose-test .*\n(?:  holds .*\n)*\s+of which (\d+) MB are", log)
    assert [name for name, _ in measured] == list(IMAGES.values())
    for name, size in measured:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |") and line.endswith(" MB |")]
        assert row.endswith(f"| {int(size):,} MB |")
    (held,) = re.findall(r"^(\d+) things held", log, re.MULTILINE)
    assert f"beside other work: {held} things held" in page
    # And with what it was run
    ((engine, compose),) = re.findall(r"^Docker ([\d.]+)\S* .*, docker[ -]compose ([\d.]+)", log, re.MULTILINE)
    assert f" {compose} on Docker {engine}" in page
