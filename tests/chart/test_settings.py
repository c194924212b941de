"""The chart knows the program: its settings, its commands, its user, its version."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from producer.api.settings import ApiSettings
from storage.contract.settings import Settings
from storage.migrations.settings import MigrationSettings
from tests.chart.cases import CASES
from tests.chart.rendering import CHART, ROOT, Object, pods, render
from worker.settings import WorkerSettings

_URLS = {"EMBEDMILL_REDIS_URL": "redis://redis:6379/0", "EMBEDMILL_DATABASE_URL": "postgresql://u:p@postgres/mill"}
_KINDS: dict[str, type[Settings]] = {
    "api": ApiSettings,
    "worker": WorkerSettings,
    "reconcile": WorkerSettings,
    "migrate": MigrationSettings,
}


def containers() -> dict[str, Object]:
    """Return the container of every pod of an installation that has everything, by its command."""
    objects = render(CASES["all at once"] | {"api": {"auth": "none", "webhookHosts": ["hooks.internal"]}})
    found = [container for _, pod in pods(objects).values() for container in pod["containers"]]
    return {one["args"][0]: one for one in found if "command" not in one}


def test_what_pods_are_told_are_settings_of_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for command, container in containers().items():
        kind = _KINDS.get(command, Settings)
        told = {one["name"]: one.get("value") or _URLS.get(one["name"], "x") for one in container["env"]}
        for name, url in _URLS.items():
            # What a Secret is mounted as: a file, with a line's end where somebody wrote it in an editor.
            (tmp_path / name).write_text(url + "\n")
            assert told[f"{name}_FILE"].startswith("/run/secrets/")
            told[f"{name}_FILE"] = str(tmp_path / name)
        ours = {name: value for name, value in told.items() if name.startswith("EMBEDMILL_")}
        # Each name is a field's; the log's level is one that not every command has
        fields = {f"EMBEDMILL_{name.upper()}" for name in kind.model_fields} | {"EMBEDMILL_LOG_LEVEL"}
        fields |= {f"{name}_FILE" for name in _URLS}
        assert set(ours) <= fields, command
        # And each value is one that it takes
        with monkeypatch.context() as environment:
            for name, value in ours.items():
                environment.setenv(name, value)
            settings = kind.load(host="0.0.0.0") if kind is ApiSettings else kind.load()
            assert (settings.redis_url, settings.database_url) == tuple(_URLS.values())
            if isinstance(settings, ApiSettings):
                settings.check_exposure()
                assert "embed.svc" in settings.hosts


@pytest.mark.timeout(400)
def test_the_commands_take_the_arguments_that_pods_give_them() -> None:
    seen = containers()
    assert set(seen) == {"api", "worker", "reconcile", "migrate"}
    for container in seen.values():
        # An option that is not there is told before help is.
        command = [sys.executable, "-m", "embedmill", *container["args"], "--help"]
        asked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
        assert asked.returncode == 0, asked.stderr


def test_images_and_chart_agree_on_the_user_and_the_version() -> None:
    user = yaml.safe_load((CHART / "values.yaml").read_text())["podSecurityContext"]["runAsUser"]
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.search(rf"useradd .*--uid {user}\b", dockerfile)
    assert 'ENTRYPOINT ["embedmill"]' in dockerfile
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == version
