"""What the chart needs to be installed in a cluster older than it takes; a post-renderer of Helm 3.

    helm install ... --post-renderer python --post-renderer-args -m --post-renderer-args tests.cluster.older \\
        --post-renderer-args MINOR

Only what the cluster does not know is converted, and nothing of the program.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

#: The oldest minor version of Kubernetes 1 that the chart takes.
OLDEST = 30

#: The minor version that brought something, and what an older cluster gets in its place.
CONVERSIONS = {
    21: "PodDisruptionBudget of policy/v1beta1 for policy/v1",
    27: "PodDisruptionBudget without unhealthyPodEvictionPolicy",
    30: "the api's preStop runs `python -c 'import time; time.sleep(5)'` for `sleep: {seconds: 5}`",
}


def told(minor: int) -> list[str]:
    """Return what is converted for a cluster of a version."""
    line = [f"kubeVersion of Chart.yaml relaxed from 1.{OLDEST}"] if minor < OLDEST else []
    return line + [what for since, what in CONVERSIONS.items() if minor < since]


def relax(chart: Path) -> None:
    """Let a copy of the chart be installed in any version."""
    file = chart / "Chart.yaml"
    file.write_text(re.sub(r"^kubeVersion:.*\n", "", file.read_text(), flags=re.MULTILINE))


def convert(found: dict[str, Any], minor: int) -> None:
    """Make an object one that a cluster of a version takes."""
    if found["kind"] == "PodDisruptionBudget":
        if minor < 27:
            found["spec"].pop("unhealthyPodEvictionPolicy", None)
        if minor < 21:
            found["apiVersion"] = "policy/v1beta1"
    if found["kind"] == "Deployment" and minor < 30:
        for container in found["spec"]["template"]["spec"]["containers"]:
            before = container.get("lifecycle", {}).get("preStop", {})
            if seconds := before.pop("sleep", {}).get("seconds"):
                before["exec"] = {"command": ["python", "-c", f"import time; time.sleep({seconds})"]}


def main() -> None:
    """Convert what comes in, and print it."""
    objects = [found for found in yaml.safe_load_all(sys.stdin) if found]
    for found in objects:
        convert(found, int(sys.argv[1]))
    yaml.safe_dump_all(objects, sys.stdout)


if __name__ == "__main__":
    main()
