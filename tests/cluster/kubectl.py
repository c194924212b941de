"""A cluster that KUBECONFIG names, asked by kubectl and by Helm, and by nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.chart.rendering import CHART, find_helm
from tests.cluster import older
from tests.commands import CommandFailed, run

#: One object of Kubernetes.
Object = dict[str, Any]

#: Longest time that one command may take, in seconds.
_COMMAND = 900


def why_not() -> str | None:
    """Return why nothing can be run here, or None where there is a cluster with what speaks to it."""
    if shutil.which("kubectl") is None:
        return "there is no kubectl"
    if subprocess.run(["kubectl", "version", "--request-timeout=20s"], capture_output=True).returncode != 0:
        return "no cluster answers (KUBECONFIG names none)"
    if subprocess.run(["kubectl", "auth", "can-i", "create", "namespaces"], capture_output=True).returncode != 0:
        return "namespaces may not be made in this cluster"
    return None if find_helm() else "there is no Helm"


class Cluster:
    """Runs commands in one namespace, for one release of the chart.

    Args:
        namespace: The namespace, which is this test's own.
        release: Name of the release.
    """

    def __init__(self, namespace: str, release: str) -> None:
        self.namespace = namespace
        self.release = release
        told = json.loads(self.kubectl("version", "-o", "json"))["serverVersion"]
        #: Version of the cluster, as it calls itself.
        self.version = str(told["gitVersion"])
        self.minor = int("".join(filter(str.isdecimal, told["minor"])))
        #: Whether the cluster is older than what the chart takes, so that a converted copy of it is installed.
        self.is_older = self.minor < older.OLDEST
        # Helm 4 runs a converter as a plugin alone, Helm 3 any program.
        found = find_helm("helm3" if self.is_older else "helm")
        if found is None:
            raise CommandFailed("A cluster older than the chart takes needs Helm 3, as `helm3`: make .venv/bin/helm3.")
        self._helm = found

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True, timeout: float = _COMMAND) -> str:
        """Run a kubectl command in the namespace; return what it printed.

        Raises:
            CommandFailed: When it fails, unless `check` is false.
        """
        return run(["kubectl", "--namespace", self.namespace, *words], timeout, stdin=stdin, check=check)[1]

    def helm(self, command: str, *words: str, values: Object | None = None) -> tuple[bool, str]:
        """Run a Helm command for the release.

        Args:
            command: `install`, `upgrade`, `test`, `rollback`, `uninstall`, `history`.
            *words: More of it.
            values: Given as a file of values, with the chart; None: the command takes neither.

        Returns:
            Whether it succeeded, and what it printed.
        """
        with tempfile.TemporaryDirectory() as home:
            place = {f"HELM_{kind}_HOME": home for kind in ("CACHE", "CONFIG", "DATA")}
            given = []
            if values is not None:
                file = Path(home) / "fleet.yaml"
                file.write_text(yaml.safe_dump(values))
                given = [str(self._chart(Path(home))), "--values", str(file), *self._converting()]
            line = [self._helm, "--namespace", self.namespace, command, self.release, *given, *words]
            code, told = run(line, _COMMAND, check=False, both=True, variables=place)
        return code == 0, told

    def helm_version(self) -> str:
        """Return Helm's version."""
        return run([self._helm, "version", "--short"], _COMMAND)[1]

    def apply(self, *objects: Object) -> None:
        """Make objects, or make them anew."""
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def get(self, kind: str, *words: str) -> list[Object]:
        """Return the objects of a kind."""
        found: list[Object] = json.loads(self.kubectl("get", kind, "-o", "json", *words))["items"]
        return found

    def pods(self, component: str, *, release: bool = True) -> list[Object]:
        """Return the pods of a component that are neither over nor on their way out, the oldest first."""
        labels = f"app.kubernetes.io/instance={self.release},app.kubernetes.io/component={component}"
        found = self.get("pods", "-l", labels if release else f"app={component}")
        alive = [pod for pod in found if pod["status"].get("phase") not in ("Failed", "Succeeded")]
        alive = [pod for pod in alive if "deletionTimestamp" not in pod["metadata"]]
        return sorted(alive, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def ready(self, component: str, *, release: bool = True) -> list[str]:
        """Return the names of a component's pods that are ready."""
        return [name_of(pod) for pod in self.pods(component, release=release) if is_ready(pod)]

    def execute(self, target: str, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """Run a command in a pod; return what it printed, on both streams where it may fail."""
        line = ["kubectl", "--namespace", self.namespace, "exec", *(["-i"] if stdin is not None else []), target, "--"]
        return run([*line, *words], _COMMAND, stdin=stdin, check=check, both=not check)[1]

    def started(self, target: str, *words: str) -> subprocess.Popen[str]:
        """Start a command in a pod and leave it running."""
        line = ["kubectl", "--namespace", self.namespace, "exec", target, "--", *words]
        return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def _chart(self, folder: Path) -> Path:
        if not self.is_older:
            return CHART
        copy = folder / "chart"
        shutil.copytree(CHART, copy)
        older.relax(copy)
        return copy

    def _converting(self) -> list[str]:
        if not self.is_older:
            return []
        words = ["-m", "tests.cluster.older", str(self.minor)]
        return ["--post-renderer", sys.executable, *(w for word in words for w in ("--post-renderer-args", word))]


def name_of(found: Object) -> str:
    """Return an object's name."""
    return str(found["metadata"]["name"])


def is_ready(pod: Object) -> bool:
    """Return whether a pod is ready."""
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def restarts(pod: Object) -> int:
    """Return how often a pod's containers were started again."""
    return sum(int(one["restartCount"]) for one in pod["status"].get("containerStatuses", []))
