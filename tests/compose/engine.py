"""A container engine and its compose, whichever of the two commands there is."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.commands import run

#: Longest time that one command of the engine may take, in seconds; building an image has longer.
_COMMAND, _BUILD = 600, 3600


def why_not() -> str | None:
    """Return why nothing can be run here, or None where there is an engine and a compose."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    if subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        return "no Docker engine answers"
    return None if _compose_command() else "there is neither `docker compose` nor docker-compose"


def _compose_command() -> list[str] | None:
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


class Engine:
    """Runs docker and compose commands for one project.

    Args:
        project: Name of the compose project; containers, networks and volumes carry it.
        root: The folder of the compose file.
        variables: What the compose file is told, on top of this process's environment.
    """

    def __init__(self, project: str, root: Path, variables: dict[str, str]) -> None:
        self.project = project
        self.variables = variables | {"COMPOSE_PROJECT_NAME": project}
        self.root = root
        self._compose = _compose_command() or ["docker", "compose"]

    def docker(self, *words: str, stdin: str | None = None, check: bool = True, timeout: float = _COMMAND) -> str:
        """Run a docker command; return what it printed.

        Raises:
            CommandFailed: When it fails, unless `check` is false.
        """
        return self._run(["docker", *words], stdin, check, timeout)

    def compose(self, *words: str, stdin: str | None = None, check: bool = True, timeout: float = _COMMAND) -> str:
        """Run a compose command; return what it printed.

        Raises:
            CommandFailed: When it fails, unless `check` is false.
        """
        return self._run([*self._compose, *words], stdin, check, timeout)

    def typed(self, code: str) -> str:
        """Type commands of a page into a shell, each of which must succeed; return what they printed."""
        written = code.replace("docker compose", " ".join(self._compose))
        return self._run(["bash", "-eu", "-o", "pipefail", "-c", written], None, True, _COMMAND)

    def build(self) -> None:
        """Build the images."""
        self.compose("build", timeout=_BUILD)

    def versions(self) -> str:
        """Return the versions of engine and compose."""
        engine = self.docker("version", "-f", "{{.Server.Version}}")
        kept = self.docker("info", "-f", "{{.Driver}}")
        compose = self.compose("version", "--short")
        return f"Docker {engine} (images in {kept}), {' '.join(self._compose)} {compose}"

    def containers(self, service: str) -> list[str]:
        """Return the ids of a service's running containers."""
        labels = (f"com.docker.compose.project={self.project}", f"com.docker.compose.service={service}")
        filters = [word for label in (*labels, "com.docker.compose.oneoff=False") for word in ("-f", f"label={label}")]
        return self.docker("ps", "-q", "--no-trunc", *filters).split()

    def left(self) -> list[str]:
        """Return what is there of the project: containers, networks and volumes."""
        label = ("-f", f"label=com.docker.compose.project={self.project}")
        kinds = (("ps", "-aq"), ("network", "ls", "-q"), ("volume", "ls", "-q"))
        return [name for kind in kinds for name in self.docker(*kind, *label).split()]

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what the engine tells of a container, an image or a volume."""
        found: dict[str, Any] = json.loads(self.docker("inspect", name))[0]
        return found

    def execute(self, container: str, *words: str, check: bool = True, stdin: str | None = None) -> str:
        """Run a command inside a container, as its user; return what it printed on both streams."""
        interactive = ["-i"] if stdin is not None else []
        return self._run(["docker", "exec", *interactive, container, *words], stdin, check, _COMMAND, both=True)

    def _run(self, line: list[str], stdin: str | None, check: bool, timeout: float, both: bool = False) -> str:
        return run(line, timeout, stdin=stdin, check=check, both=both, variables=self.variables, folder=self.root)[1]
