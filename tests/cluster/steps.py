"""Installation and use: each step brings the fleet into one more state that an operator will see, and checks it."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from urllib.parse import quote

import numpy as np

from storage.contract.models import DEFAULT_MODEL
from storage.contract.options import JobOptions
from tests.cluster.fleet import COMPONENTS, Fleet
from tests.cluster.kubectl import name_of
from tests.compose.stack import make_texts, unit

#: What a process shows of its rights: none, none that it could get, no way to new ones, and a filter of its calls.
_RIGHTS = (r"CapEff:\s+0+\s", r"CapPrm:\s+0+\s", r"CapBnd:\s+0+\s", r"NoNewPrivs:\s+1\s", r"Seccomp:\s+2\s")

#: Longest wait of Helm for the migration, in steps whose migration cannot start.
SHORT = "40s"


def bring_servers(fleet: Fleet, base: str) -> None:
    """A namespace with Redis and PostgreSQL, their roles, and a pod to ask from."""
    cluster, report = fleet.cluster, fleet.report
    report.step("A namespace with Redis and PostgreSQL over TLS, and a role for each side")
    cluster.kubectl("create", "namespace", cluster.namespace)
    fleet.servers.start()
    asks = {"requests": {"cpu": "50m"}}
    client = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "client", "image": base, "command": ["sleep", "infinity"], "resources": asks}],
    }
    meta = {"name": "client", "labels": {"app": "client"}}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": client})
    for server in ("redis", "postgres", "client"):
        fleet.until(f"{server} is ready", lambda s=server: cluster.ready(s, release=False))
        (pod,) = cluster.pods(server, release=False)
        (told,) = pod["status"]["containerStatuses"]
        report.note(f"{server}: {told['image']} {told['imageID'].rsplit(':', 1)[-1][:12]}")
    fleet.until("PostgreSQL answers", lambda: cluster.execute("deploy/postgres", "pg_isready", "-h", "127.0.0.1"))
    fleet.servers.make_roles()
    urls = fleet.servers.urls() | {"wrong-database-url": fleet.servers.database_url("owner", "wrong")}
    words = [f"--from-literal={entry}={url}" for entry, url in urls.items()]
    cluster.kubectl("create", "secret", "generic", "embedmill-servers", *words)


def install(fleet: Fleet) -> None:
    """A first installation whose migration fails leaves nothing but its log; the next one is whole."""
    cluster, report = fleet.cluster, fleet.report
    report.step("helm install, while the migration cannot log in")
    wrong = fleet.changed(servers={"ownerDatabaseKey": "wrong-database-url"}, migration={"backoffLimit": 0})
    done, told = cluster.helm("install", values=wrong)
    report.check("Helm says that it failed", not done and "migration" in told, told.splitlines()[-1])
    report.check("there is no Deployment, no Service, no pod of the fleet", not fleet.deployments())
    log = cluster.kubectl("logs", f"job/{fleet.name}-migration")
    report.check("the migration's log says why", "password" in log, "".join(log.splitlines()[-1:])[:200])

    report.step("helm upgrade --install, with the right entry")
    began = time.monotonic()
    done, told = cluster.helm("upgrade", "--install", values=fleet.values)
    report.check("Helm has installed it", done, f"{time.monotonic() - began:.0f} s, {_short(told)}")
    schema = fleet.servers.sql("SELECT version_num FROM alembic_version")
    log = cluster.kubectl("logs", f"job/{fleet.name}-migration")
    report.check("the migration has made the schema, and its log says so", f"The schema is at {schema} " in log, schema)
    policies = {name_of(found).removeprefix(f"{fleet.name}-") for found in cluster.get("networkpolicies")}
    report.check("its network policy is gone too", policies == {"api", "workers", "reconciler"}, policies)
    # As typed: the test waits for a service that is only starting
    done, told = cluster.helm("test")
    report.check("helm test, typed at once, is content", done, _short(told))
    fleet.until_rolled_out()
    report.check("everything is ready", len(fleet.pods_and_restarts()) == 4, f"{time.monotonic() - began:.0f} s")
    report.check("nothing was started twice", not any(fleet.pods_and_restarts().values()), fleet.pods_and_restarts())
    for component in COMPONENTS:
        (told,) = cluster.pods(component)[0]["status"]["containerStatuses"]
        report.note(f"{component}: {told['image']} {told['imageID'].rsplit(':', 1)[-1][:12]}")


def ask_as_others_do(fleet: Fleet) -> None:
    """What a kubelet asks of the reconciler, and KEDA of the service, has an answer that they can use."""
    report = fleet.report
    report.step("What a kubelet and KEDA ask")
    (pod,) = fleet.cluster.pods("reconciler")
    alive = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"
    url = f"http://{pod['status']['podIP']}:8080/healthz"
    told = fleet.cluster.execute("client", "python", "-c", alive, url)
    report.check("the reconciler says that it is alive", json.loads(told)["status"] == "alive", told)
    for model, wanted in ((DEFAULT_MODEL, 0), ("nobody/was-ever-here", 1)):
        code, told = fleet.ask(f"/v1/backlog?model={quote(model, safe='')}&precision=float32")
        found = json.loads(told)
        what = f"{model}: {wanted} wanted_tokens, of which KEDA makes pods"
        report.check(what, code == 200 and found["wanted_tokens"] == wanted, f"{found['workers']} workers")


def look_inside(fleet: Fleet) -> None:
    """Pods have no more rights than they need."""
    report = fleet.report
    report.step("Rights of the pods")
    for component in COMPONENTS:
        pod = fleet.cluster.ready(component)[0]
        inside = fleet.cluster.execute
        user = inside(pod, "id", "-u")
        report.check(f"{component}: its user is not root", user == "10001", f"uid {user}")
        status = inside(pod, "cat", "/proc/1/status") + "\n"
        report.check(
            f"{component}: no capabilities, no new privileges, a seccomp filter",
            all(re.search(one, status) for one in _RIGHTS),
        )
        written = inside(pod, "sh", "-c", "touch /usr/x /opt/x /etc/x /x 2>&1", check=False)
        report.check(f"{component}: its root file system is read-only", written.count("Read-only file system") == 4)
        inside(pod, "sh", "-c", "touch /data/x /tmp/x && rm /data/x /tmp/x")
        report.check(f"{component}: /data and /tmp can be written to", True)
        token = inside(pod, "sh", "-c", "ls /var/run/secrets/kubernetes.io 2>&1", check=False)
        report.check(f"{component}: no token of Kubernetes", "No such file" in token)


def submit(fleet: Fleet, sentences: Path, seconds: float) -> None:
    """Texts go in through the Service with a key; their vectors are those that the model gives on this machine."""
    cluster, report = fleet.cluster, fleet.report
    report.step("Submit through the Service, with a key")
    report.check("without a key it is refused", fleet.ask("/v1/jobs", key=False)[0] == 401)
    made = ("embedmill", "keys", "create", "me", "--scopes", "admin")
    fleet.key = cluster.execute(f"deploy/{fleet.name}-api", *made).split()[-1]
    for count in (20, 300):
        began = time.monotonic()
        job_id = fleet.submit(make_texts(sentences, count))
        fleet.until("the first jobs have ended", lambda j=job_id: fleet.state(j) == "completed")
    took = time.monotonic() - began
    # Never so few that one worker leases all that is left, while another is to be seen at the same job.
    fleet.texts = make_texts(sentences, max(1800, int(300 / took * seconds)))
    report.note(f"300 texts took {took:.1f} s: each job from here on has {len(fleet.texts)}")
    job_id = fleet.submit()
    began = time.monotonic()
    fleet.until("the job has ended", lambda: fleet.state(job_id) == "completed")
    report.note(f"{len(fleet.texts)} texts in {time.monotonic() - began:.0f} s")
    fleet.check_job(job_id)
    _compare_with_local(fleet)
    code, told = fleet.ask(
        "/v1/embeddings", {"input": fleet.texts[:3], "model": DEFAULT_MODEL, "encoding_format": "float"}
    )
    assert fleet.reference is not None
    called = np.array([item["embedding"] for item in json.loads(told)["data"]], dtype=np.float32)
    least = float((unit(called) * unit(fleet.reference[:3])).sum(axis=1).min())
    report.check("/v1/embeddings gives the same vectors", code == 200 and least > 0.99999, f"least cosine {least:.7f}")


def _compare_with_local(fleet: Fleet) -> None:
    from worker.engine.checkpoint import resolve
    from worker.engine.engine import Engine

    assert fleet.reference is not None
    texts = fleet.texts[:: max(1, len(fleet.texts) // 200)]
    engine = Engine(resolve(DEFAULT_MODEL), dtype="float32")
    try:
        local = engine.embed(texts, JobOptions()).vectors
    finally:
        engine.stop(wait=30)
    there = fleet.reference[:: max(1, len(fleet.texts) // 200)]
    least = float((unit(local) * unit(there)).sum(axis=1).min())
    what = f"{len(texts)} vectors are those that the same model gives on this machine"
    fleet.report.check(what, least > 0.99999, f"least cosine {least:.7f}")


def read_logs(fleet: Fleet) -> None:
    """Every line that a pod has logged is JSON."""
    fleet.report.step("Logs")
    for component in COMPONENTS:
        lines = []
        for pod in fleet.cluster.pods(component):
            lines += fleet.cluster.kubectl("logs", name_of(pod)).splitlines()
        other = [line for line in lines if not _is_json(line)]
        found = f"{len(lines)} lines" if not other else f"{len(other)} of {len(lines)}: {other[0][:160]}"
        fleet.report.check(f"{component}: every line is JSON", not other, found)


def look_for_secrets(fleet: Fleet, logs: str) -> None:
    """After all of it, nothing that is secret was told anywhere."""
    from tests.compose.stack import CANARY

    cluster = fleet.cluster
    fleet.report.step("Secrets and texts")
    places = {"all logs": logs, "events": cluster.kubectl("get", "events", "-o", "yaml")}
    for kind in ("deployments", "pods", "services", "configmaps", "networkpolicies", "ingresses"):
        places[kind] = cluster.kubectl("get", kind, "-o", "yaml")
    words = fleet.secrets | {"text": CANARY}
    found = [f"{name} in {place}" for place, told in places.items() for name, word in words.items() if word in told]
    fleet.report.check(f"none of {len(words)} words is in {', '.join(places)}", not found, "; ".join(found))


def uninstall(fleet: Fleet) -> None:
    """Nothing of the release stays but the last migration's Job with its log, and the database is as it was."""
    cluster, report = fleet.cluster, fleet.report
    report.step("helm uninstall")
    jobs = fleet.servers.sql("SELECT count(*) FROM jobs")
    done, told = cluster.helm("uninstall", "--wait")
    report.check("Helm has removed it", done, _short(told))
    kinds = "deployments,replicasets,pods,jobs,services,serviceaccounts,networkpolicies,ingresses,poddisruptionbudgets"

    def left() -> str:
        labels = f"app.kubernetes.io/instance={cluster.release}"
        return cluster.kubectl("get", kinds, "-l", labels, "-o", "name")

    cluster.kubectl("logs", f"job/{fleet.name}-migration")
    cluster.kubectl("delete", "job", f"{fleet.name}-migration")
    fleet.until("pods have gone", lambda: "pod/" not in left())
    report.check("no object of it is left but the migration's Job, which had its log", not left(), left())
    after = fleet.servers.sql("SELECT count(*) FROM jobs")
    report.check("the database is as it was", after == jobs, f"{after} jobs")


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _short(told: str) -> str:
    lines = [line for line in told.splitlines() if line.strip()]
    return lines[0][:200] if lines else ""
