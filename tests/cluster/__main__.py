"""`make cluster-test`: the Helm chart, installed in a real cluster, used, broken, upgraded and removed.

In the cluster that KUBECONFIG names, in a namespace of its own, which is deleted in the end. Its nodes must be able to
get the images: REGISTRY and TAG (embedmill-base and embedmill-worker, built from this commit), NEXT_TAG (the same under
another tag, to upgrade to), REDIS_IMAGE and POSTGRES_IMAGE.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from pathlib import Path

from tests.cluster import changes, older, steps
from tests.cluster.fleet import COMPONENTS, Fleet
from tests.cluster.kubectl import Cluster, name_of, why_not
from tests.cluster.servers import Servers
from tests.commands import ROOT
from tests.compose.report import Report

SENTENCES = ROOT / "examples" / "sentences.jsonl"
NAMESPACE = "embedmill-cluster-test"


def main() -> int:
    """Run every step; return 0 when all that must hold did, or nothing could be run here."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("--log", type=Path, help="file that gets what is printed")
    parser.add_argument("--seconds", type=float, default=90, help="how long one worker needs for a job, about")
    parser.add_argument("--keep", action="store_true", help="leave the namespace where something is broken")
    given = parser.parse_args()
    if reason := why_not():
        print(f"Skipped: {reason}.")
        return 0
    report = Report(given.log)
    cluster = Cluster(NAMESPACE, "mill")
    registry, tag = os.environ.get("REGISTRY", ""), os.environ.get("TAG") or "0.1.0"
    images = (
        os.environ.get("REDIS_IMAGE") or "redis:7.4.6-alpine",
        os.environ.get("POSTGRES_IMAGE") or "postgres:17.7-alpine",
    )
    fleet = Fleet(cluster, Servers(cluster, *images), report, (registry, tag))
    _introduce(cluster, report)
    broken = True
    try:
        _run(fleet, f"{registry.rstrip('/')}/" if registry else "", tag, given.seconds)
        broken = False
    except Exception:
        report.say(traceback.format_exc())
        report.say(cluster.kubectl("get", "pods,jobs", "-o", "wide", check=False))
        report.say(cluster.kubectl("get", "events", "--sort-by=.lastTimestamp", check=False)[-3000:])
    finally:
        if not (broken and given.keep):
            report.step("Delete the namespace")
            cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", check=False)
            report.check("nothing is left", not cluster.kubectl("get", "namespace", NAMESPACE, "--ignore-not-found"))
    report.say(f"\n{report.held} things held; left out: {', '.join(report.left_out) or 'nothing'}.")
    return int(broken)


def _introduce(cluster: Cluster, report: Report) -> None:
    report.say(f"make cluster-test, commit {report.commit}")
    for node in cluster.get("nodes"):
        told = node["status"]["nodeInfo"]
        report.say(
            f"Kubernetes {cluster.version}, {told['containerRuntimeVersion']}, {told['architecture']}, "
            f"{node['status']['capacity']['cpu']} processors; Helm {cluster.helm_version()}"
        )
    for line in older.told(cluster.minor):
        report.say(f"converted, since this Kubernetes is older than the chart takes: {line}")


def _run(fleet: Fleet, prefix: str, tag: str, seconds: float) -> None:
    steps.bring_servers(fleet, f"{prefix}embedmill-base:{tag}")
    steps.install(fleet)
    steps.look_inside(fleet)
    steps.submit(fleet, SENTENCES, seconds)
    steps.ask_as_others_do(fleet)
    steps.read_logs(fleet)
    changes.upgrade_a_value(fleet)
    if new := os.environ.get("NEXT_TAG"):
        changes.upgrade_the_image(fleet, new)
    else:
        fleet.report.leave_out("an upgrade to other images", "NEXT_TAG names none")
    changes.scale(fleet)
    changes.delete_a_worker(fleet)
    changes.kill_a_worker(fleet)
    changes.evict(fleet)
    changes.overfill(fleet)
    changes.lose_postgres(fleet)
    changes.lose_redis(fleet)
    changes.fail_the_migration(fleet)
    changes.wrong_image(fleet)
    steps.read_logs(fleet)
    logs = [fleet.cluster.kubectl("logs", name_of(pod)) for part in COMPONENTS for pod in fleet.cluster.pods(part)]
    steps.look_for_secrets(fleet, "\n".join(logs))
    steps.uninstall(fleet)
    fleet.report.leave_out("network policies", "whether they are kept to is the cluster's network's affair")
    fleet.report.leave_out("KEDA and the Prometheus operator", "their objects are checked against their schemas alone")


if __name__ == "__main__":
    sys.exit(main())
