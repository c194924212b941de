"""`make compose-test`: the containers of docker-compose.yml, really built, run, broken, upgraded and removed.

Takes the variables of docker-compose.yml (images, PIP_ARGS) and COMPOSE_FILE from the environment; uses ports,
passwords, volumes and image tags of its own, and leaves nothing behind.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.commands import ROOT
from tests.compose import operating, steps
from tests.compose.engine import Engine, why_not
from tests.compose.privileges import check_leaves_out_grafana
from tests.compose.report import Report
from tests.compose.stack import Stack, free_ports

SENTENCES = ROOT / "examples" / "sentences.jsonl"

#: What is done after the first jobs: everything, or what an operator does who breaks nothing on purpose but Redis.
_PARTS: dict[str, tuple[Callable[[Stack], None], ...]] = {
    "all": (
        steps.scale,
        operating.four_workers,
        steps.kill_worker,
        steps.restart_servers,
        operating.redis_kept_all,
        steps.stop_gracefully,
        steps.upgrade,
        steps.monitor,
        operating.restore,
    ),
    "operating": (
        operating.four_workers,
        steps.restart_redis,
        operating.redis_kept_all,
        steps.monitor,
        operating.restore,
    ),
}


def main() -> int:
    """Run every step; return 0 when all that must hold did, or nothing could be run here."""
    parser = argparse.ArgumentParser(prog="python -m tests.compose", description=__doc__)
    parser.add_argument("--log", type=Path, help="file that gets what is printed")
    parser.add_argument("--part", choices=_PARTS, default="all", help="which steps")
    parser.add_argument("--seconds", type=float, default=90, help="how long one worker needs for a job, about")
    parser.add_argument("--docker-build", default="", help="options of `docker build` for the image of an old commit")
    given = parser.parse_args()
    if reason := why_not():
        print(f"Skipped: {reason}.")
        return 0
    report = Report(given.log)
    with tempfile.TemporaryDirectory(prefix="embedmill-compose-") as folder:
        subprocess.run(["sh", str(ROOT / "deploy/make-secrets.sh"), folder], check=True, stdout=subprocess.DEVNULL)
        stack = Stack(Engine("embedmill-compose-test", ROOT, _variables(folder, report.commit)), report, [])
        try:
            _run(stack, given)
        except Exception:
            report.say(traceback.format_exc())
            report.say(stack.engine.compose("logs", "--no-color", "--tail", "30", check=False))
            return 1
        finally:
            stack.report.step("Take everything down, volumes too")
            steps.take_down(stack)
            for tag in ("compose-test", "compose-test-next"):
                names = [f"embedmill-{kind}:{tag}" for kind in ("base", "worker")]
                stack.engine.docker("image", "rm", *names, check=False)
    report.say(f"\n{report.held} things held; left out: {', '.join(report.left_out) or 'nothing'}.")
    return 0


def _run(stack: Stack, given: argparse.Namespace) -> None:
    report = stack.report
    named = "" if given.part == "all" else f" PART={given.part}"
    report.say(f"make compose-test{named}, commit {report.commit}")
    report.say(f"{stack.engine.versions()}; {platform.machine()}, {os.cpu_count()} processors")
    steps.build(stack)
    steps.start(stack)
    for service in ("redis", "postgres"):
        image = stack.engine.inspect(stack.engine.containers(service)[0])
        report.note(f"{service}: {image['Config']['Image']} {image['Image'][7:19]}")
    steps.size_the_job(stack, SENTENCES, given.seconds)
    steps.submit(stack)
    for step in _PARTS[given.part]:
        step(stack)
    if not check_leaves_out_grafana(stack):
        report.leave_out(
            "Grafana", "its image is not here and cannot be got; tests/test_compose_file.py reads its files"
        )
    steps.look_for_secrets(stack, [*steps.SERVICES, "prometheus"])
    if given.part == "all":
        steps.from_the_first_schema(stack, ROOT, shlex.split(given.docker_build))


def _variables(folder: str, commit: str) -> dict[str, str]:
    """Return what the compose file is told: ports, passwords and a tag of this run's own."""
    ports = dict(zip(("EMBEDMILL_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT"), free_ports(3), strict=True))
    images = {name: value for name, value in os.environ.items() if name.endswith("_IMAGE")}
    return (
        ports
        | images
        | {
            "EMBEDMILL_SECRETS": folder,
            "EMBEDMILL_TAG": "compose-test",
            "EMBEDMILL_REVISION": commit,
            # Measured anew at each start, batches would not be the same; and the same vectors are asked for.
            "EMBEDMILL_DTYPE": "float32",
            "EMBEDMILL_AUTH": "keys",
        }
    )


if __name__ == "__main__":
    sys.exit(main())
