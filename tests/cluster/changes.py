"""What happens to a fleet at work: upgrades, scaling, pods and servers that go, wrong images and wrong migrations."""

from __future__ import annotations

import json
import time

from tests.cluster.fleet import COMPONENTS, Fleet
from tests.cluster.kubectl import is_ready, name_of, restarts
from tests.cluster.steps import SHORT
from tests.commands import CommandFailed


def upgrade_a_value(fleet: Fleet) -> None:
    """A value is changed in the midst of a job; pods are replaced one by one, and nobody notices."""
    report, cluster = fleet.report, fleet.cluster
    report.step("helm upgrade with a changed value, in the midst of a job")
    with fleet.job_under_way() as job_id:
        before = set(fleet.pods_and_restarts())
        own = {"extraEnv": [{"name": "EMBEDMILL_KEEP_DAYS", "value": "40"}]}
        fleet.values = fleet.changed(settings={"maxTextBytes": 900_000}, reconciler=own)
        with fleet.asked_all_the_while():
            done, told = cluster.helm("upgrade", values=fleet.values)
            report.check("Helm has upgraded it", done, told.splitlines()[0])
            fleet.check_midst(job_id)
            fleet.until_rolled_out()
        now = fleet.pods_and_restarts()
        report.check(
            "every pod is a new one, ready and never restarted",
            len(now) == 4 and not before & set(now) and not any(now.values()),
            now,
        )
        told = cluster.execute(fleet.cluster.ready("api")[0], "sh", "-c", "echo $EMBEDMILL_MAX_TEXT_BYTES")
        report.check("the value is there", told == "900000", told)
        told = cluster.execute(fleet.cluster.ready("reconciler")[0], "sh", "-c", "echo $EMBEDMILL_KEEP_DAYS")
        report.check("what extraEnv says in a setting's place holds", told == "40", told)
    done, told = cluster.helm("test")
    report.check("helm test is content", done)


def upgrade_the_image(fleet: Fleet, tag: str) -> None:
    """Images of another tag are rolled out in the midst of a job."""
    report = fleet.report
    report.step(f"helm upgrade to images of the tag {tag}, in the midst of a job")
    with fleet.job_under_way() as job_id:
        image = fleet.values["image"]
        new = {part: image[part] | {"tag": tag} for part in ("base", "worker")}
        fleet.values = fleet.changed(image=new)
        with fleet.asked_all_the_while():
            done, told = fleet.cluster.helm("upgrade", values=fleet.values)
            report.check("Helm has upgraded it", done, told.splitlines()[0])
            fleet.check_midst(job_id)
            fleet.until_rolled_out()
        pods = [pod for component in COMPONENTS for pod in fleet.cluster.pods(component)]
        images = {pod["spec"]["containers"][0]["image"] for pod in pods}
        report.check("every pod runs from it", all(one.endswith(f":{tag}") for one in images), " ".join(sorted(images)))


def scale(fleet: Fleet) -> None:
    """The group of workers is scaled up by kubectl, and both work at one job."""
    report = fleet.report
    report.step("kubectl scale the group of workers to two")
    fleet.cluster.kubectl("scale", f"deploy/{fleet.name}-worker-minilm", "--replicas", "2")
    fleet.until("two workers are ready", lambda: len(fleet.cluster.ready("worker-minilm")) == 2)
    # Helm sets the number that the values say at its next upgrade.
    fleet.values["workers"][0]["replicas"] = 2
    with fleet.job_under_way():
        found = fleet.until("both workers hold leases", lambda: len(h := fleet.holders()) == 2 and h)
        report.check("both work at one job", len(found) == 2, " and ".join(found))


def delete_a_worker(fleet: Fleet) -> None:
    """A worker's pod is deleted in the midst of a job; it gives its leases back within its grace."""
    report = fleet.report
    report.step("Delete a worker's pod in the midst of a job")
    with fleet.job_under_way() as job_id:
        victim = fleet.until("a worker holds leases", fleet.holders)[0]
        grace = next(p for p in fleet.cluster.pods("worker-minilm") if name_of(p) == victim)["spec"]
        fleet.check_midst(job_id)
        began = time.monotonic()
        fleet.cluster.kubectl("delete", "pod", victim, "--wait=false")
        # Its log ends with its container; the pod stays until its node has tidied up, which is no matter of grace.
        fleet.cluster.kubectl("logs", "--follow", "--tail", "1", victim, check=False)
        took = time.monotonic() - began
        left = fleet.servers.sql(f"SELECT count(*) FROM workers WHERE host = '{victim}'")
        seconds = grace["terminationGracePeriodSeconds"]
        report.check("its container has ended within its grace", took < seconds, f"{took:.1f} of {seconds} s")
        report.check(
            "it is not registered any more, and so holds no lease", left == "0" and victim not in fleet.holders()
        )
    fleet.until_rolled_out()


def kill_a_worker(fleet: Fleet) -> None:
    """A worker's pod is removed without grace in the midst of a job; its chunks come back."""
    fleet.report.step("Delete a worker's pod without grace (--grace-period 0 --force) in the midst of a job")
    with fleet.job_under_way() as job_id:
        victim = fleet.until("a worker holds leases", fleet.holders)[0]
        fleet.check_midst(job_id)
        fleet.cluster.kubectl("delete", "pod", victim, "--grace-period", "0", "--force")
    fleet.until_rolled_out()


def evict(fleet: Fleet) -> None:
    """Evictions are granted one by one: the budget of disruptions is kept."""
    cluster, report = fleet.cluster, fleet.report
    for component in ("api", "worker-minilm"):
        report.step(f"Evict both pods of {component} at once")
        first, second = cluster.ready(component)
        report.check("the first is granted", _evict(fleet, first) is None, first)
        refused = _evict(fleet, second) or ""
        report.check("the second is refused by the budget", "disruption budget" in refused, refused.splitlines()[-1:])
        began = time.monotonic()
        fleet.until("the second is granted in the end", lambda s=second: _evict(fleet, s) is None)
        report.check(
            "the second is granted when another pod is ready",
            len(cluster.ready(component)) >= 1,
            f"{time.monotonic() - began:.0f} s later",
        )
        fleet.until("both are ready again", lambda c=component: len(cluster.ready(c)) == 2)


def _evict(fleet: Fleet, pod: str) -> str | None:
    """Ask for a pod's eviction, as `kubectl drain` does; return why it was refused, or None."""
    cluster = fleet.cluster
    version = "policy/v1" if cluster.minor >= 22 else "policy/v1beta1"
    wish = {"apiVersion": version, "kind": "Eviction", "metadata": {"name": pod, "namespace": cluster.namespace}}
    path = f"/api/v1/namespaces/{cluster.namespace}/pods/{pod}/eviction"
    try:
        cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(wish))
    except CommandFailed as refused:
        return str(refused)
    return None


def overfill(fleet: Fleet) -> None:
    """A pod that writes more than its volume may hold is put off its node, and replaced."""
    cluster, report = fleet.cluster, fleet.report
    report.step("Write more than its volume may hold, in a pod of the api")
    victim = cluster.ready("api")[0]
    cluster.execute(victim, "sh", "-c", "head -c 100000000 /dev/zero >/tmp/much", check=False)

    def reason() -> str:
        (pod,) = cluster.get("pods", "--field-selector", f"metadata.name={victim}")
        told = pod["status"]
        return str(told.get("message", "")) if told.get("reason") == "Evicted" else ""

    told = fleet.until("the pod is evicted", reason)
    report.check("it is evicted, with its reason", "exceeds the limit" in told, told.strip())
    fleet.until("two pods of the api are ready", lambda: len(cluster.ready("api")) == 2)
    cluster.kubectl("delete", "pod", victim)


def lose_postgres(fleet: Fleet) -> None:
    """While PostgreSQL is away the api is not ready, and nothing is restarted; then all goes on."""
    cluster, report = fleet.cluster, fleet.report
    report.step("PostgreSQL is away for a while, in the midst of a job")
    with fleet.job_under_way() as job_id:
        fleet.check_midst(job_id)
        before = fleet.pods_and_restarts()
        began = time.monotonic()
        fleet.servers.take_postgres_away()
        fleet.until("no pod of the api is ready", lambda: not cluster.ready("api"))
        report.check(
            "no pod of the api is ready any more", not cluster.ready("api"), f"{time.monotonic() - began:.0f} s later"
        )
        (service,) = cluster.get("endpoints", "--field-selector", f"metadata.name={fleet.name}-api")
        ready = [one for subset in service.get("subsets", []) for one in subset.get("addresses", [])]
        report.check("the Service leads nowhere", not ready)
        time.sleep(60)
        workers = cluster.pods("worker-minilm")
        report.note(f"workers after a minute: {sum(map(is_ready, workers))} of {len(workers)} ready")
        began = time.monotonic()
        fleet.servers.bring_postgres_back()
        fleet.until("everything is ready again", lambda: set(fleet.pods_and_restarts()) == set(before))
        report.check("the same pods are ready again", True, f"{time.monotonic() - began:.0f} s later")
        report.check("none of them was restarted", fleet.pods_and_restarts() == before, fleet.pods_and_restarts())


def lose_redis(fleet: Fleet) -> None:
    """Redis goes with all it has, in the midst of a job; the reconciler sends again what was lost."""
    report = fleet.report
    report.step("Redis is deleted with all that it had, in the midst of a job")
    with fleet.job_under_way() as job_id:
        fleet.check_midst(job_id)
        fleet.cluster.kubectl("delete", "pod", "-l", "app=redis")
        fleet.until("another Redis is ready", lambda: fleet.cluster.ready("redis", release=False))
    counts = [restarts(pod) for component in COMPONENTS for pod in fleet.cluster.pods(component)]
    report.note(f"restarts of pods since the last upgrade: {sum(counts)}")


def fail_the_migration(fleet: Fleet) -> None:
    """An upgrade whose migration fails, or cannot even start, changes nothing."""
    cluster, report = fleet.cluster, fleet.report
    before, pods = fleet.deployments(), fleet.pods_and_restarts()
    report.step("helm upgrade with a migration that fails")
    wrong = fleet.changed(
        servers={"ownerDatabaseKey": "wrong-database-url"},
        migration={"backoffLimit": 0},
        settings={"maxTextBytes": 800_000},
    )
    done, told = cluster.helm("upgrade", values=wrong)
    report.check("Helm says that it failed", not done, told.splitlines()[-1])
    report.check("no Deployment was changed", fleet.deployments() == before, before)
    report.check("the pods are the same", fleet.pods_and_restarts() == pods)
    log = cluster.kubectl("logs", f"job/{fleet.name}-migration")
    report.check("the migration's log is there and says why", "password" in log, "".join(log.splitlines()[-1:])[:200])

    report.step("helm upgrade to an image of api and migration that does not exist")
    image = fleet.values["image"]
    done, told = cluster.helm(
        "upgrade", "--timeout", SHORT, values=fleet.changed(image={"base": image["base"] | {"tag": "not-there"}})
    )
    report.check("Helm says that it failed", not done, told.splitlines()[-1])
    report.check("no Deployment was changed", fleet.deployments() == before)
    report.check("the pods are the same", fleet.pods_and_restarts() == pods)

    report.step("helm upgrade again, with what is right")
    done, told = cluster.helm("upgrade", values=fleet.values)
    report.check("Helm has upgraded it", done, told.splitlines()[0])
    fleet.until_rolled_out()


def wrong_image(fleet: Fleet) -> None:
    """An image of workers that does not exist stops its own roll-out; the rest works on, and a rollback mends it."""
    cluster, report = fleet.cluster, fleet.report
    report.step("helm upgrade to an image of workers that does not exist")
    before = fleet.pods_and_restarts()
    image = fleet.values["image"]
    values = fleet.changed(image={"worker": image["worker"] | {"tag": "not-there"}})
    done, told = cluster.helm("upgrade", values=values)
    report.check("Helm has taken it: it waits for the migration alone", done, told.splitlines()[0])

    def why() -> str:
        waiting = [
            s.get("state", {}).get("waiting", {})
            for p in cluster.pods("worker-minilm")
            for s in p["status"].get("containerStatuses", [])
        ]
        reasons = [one["reason"] for one in waiting if "Image" in one.get("reason", "")]
        return str(reasons[0]) if reasons else ""

    reason = fleet.until("a pod waits for its image", why)
    kept = set(before) & set(fleet.pods_and_restarts())
    report.check(
        "one pod waits for its image, all others are kept", len(kept) == len(before) - 1, f"{reason}; {len(kept)} kept"
    )
    with fleet.job_under_way():
        report.note("a job is done by the worker that was kept")

    report.step("helm rollback")
    done, told = cluster.helm("rollback", "--wait", "--timeout", "10m")
    report.check("Helm has rolled it back", done, told.splitlines()[0])
    fleet.until_rolled_out()
    now = fleet.pods_and_restarts()
    report.check(
        "everything is ready, and what was kept was not touched",
        kept <= set(now) and len(now) == len(before),
        f"{len(now)} pods",
    )
    done, _ = cluster.helm("test")
    report.check("helm test is content", done)
