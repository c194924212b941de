"""The steps: each brings the stack into one more state that an operator will see, and checks what must hold in it."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np

from tests.compose import operating
from tests.compose.engine import Engine
from tests.compose.privileges import check_images, check_nothing_is_told, check_privileges, check_servers_refuse
from tests.compose.stack import Stack, free_ports, make_texts, unit

SERVICES = ["redis", "postgres", "api", "worker"]

#: The last commit whose schema was the first one.
FIRST_SCHEMA = "9768fcd"


def build(stack: Stack) -> None:
    """Both images are built and are what they should be."""
    stack.report.step("Build both images")
    stack.engine.build()
    check_images(stack)


def start(stack: Stack) -> None:
    """Everything starts, migrates and becomes healthy; nobody has more rights than needed."""
    stack.report.step("Start everything")
    began = time.monotonic()
    stack.up()
    stack.report.note(f"healthy after {time.monotonic() - began:.0f} s")
    stack.report.check("the schema is there", stack.sql("SELECT version_num FROM alembic_version"))
    stack.report.check("Redis is append-only", "appendonly.aof" in _data_of(stack, "redis"))
    stack.report.step("Rights of the containers")
    check_privileges(stack, SERVICES)
    check_servers_refuse(stack)


def submit(stack: Stack) -> None:
    """Texts go in through the API with a key, and through the cli container; the same vectors come out."""
    report = stack.report
    report.step("Submit through the API, with a key")
    report.check("without a key it is refused", httpx.get(f"{stack.url}/v1/jobs").status_code == 401)
    stack.key = stack.cli("keys", "create", "compose-test", "--scopes", "admin").split()[-1]
    with stack.client() as client:
        began = time.monotonic()
        job = client.submit(stack.texts)
        stack.until("the job has ended", lambda: job.status().is_final)
        status = job.status()
        report.note(f"{status.total} texts, {status.tokens} tokens, {time.monotonic() - began:.0f} s")
        stack.check_job(job)
    vectors = stack.reference
    assert vectors is not None
    norms = np.linalg.norm(vectors, axis=1)
    report.check("vectors are of length 1, and differ", np.allclose(norms, 1, atol=1e-4), f"shape {vectors.shape}")
    report.check("no two texts have one vector", len(np.unique(vectors.round(5), axis=0)) == len(vectors))
    body = {"input": stack.texts[:3], "encoding_format": "float", "model": _model(stack)}
    answer = httpx.post(f"{stack.url}/v1/embeddings", json=body, headers=_bearer(stack), timeout=120).json()
    called = unit(np.array([item["embedding"] for item in answer["data"]], dtype=np.float32))
    least = float((called * unit(vectors[:3])).sum(axis=1).min())
    report.check("/v1/embeddings gives the same vectors", least > 0.99999, f"least cosine {least:.7f}")

    report.step("Submit through the cli container, from standard input")
    texts = stack.texts[:100]
    job_id = stack.cli("submit", "--wait", "-", stdin="\n".join(texts) + "\n").split()[-1]
    shown = json.loads(stack.cli("status", job_id, "--json"))
    report.check("the cli's job is completed", shown["succeeded"] == len(texts), shown["state"])
    lines = stack.cli("results", job_id, "-o", "-", "--output-format", "jsonl").splitlines()
    rows = np.array([json.loads(line)["vector"] for line in lines], dtype=np.float32)
    least = float((unit(rows) * unit(vectors[: len(texts)])).sum(axis=1).min())
    report.check("its vectors are the API's", least > 0.99999, f"least cosine {least:.7f}")


def scale(stack: Stack) -> None:
    """Two workers share a job."""
    stack.report.step("Scale to two workers")
    stack.scale(2)
    check_privileges(stack, ["worker"])
    with stack.job_under_way():
        hosts = stack.until("both workers hold leases", lambda: len(found := stack.holders()) == 2 and found)
        stack.report.check("both work at one job", len(hosts) == 2, " and ".join(hosts))


def kill_worker(stack: Stack) -> None:
    """A worker's container is killed in the midst of a job; nothing is lost."""
    stack.report.step("Kill a worker's container in the midst of a job (SIGKILL)")
    with stack.job_under_way() as job_id:
        host = stack.until("a worker holds leases", stack.holders)[0]
        victim = next(name for name in stack.engine.containers("worker") if name.startswith(host))
        stack.engine.docker("kill", "-s", "KILL", victim)
        pending = stack.pending(job_id)
        stack.report.check("the job was in its midst", pending > 0, stack.of_all(pending))
        stack.report.check("one worker is left", len(stack.engine.containers("worker")) == 1)
    taken = stack.sql("SELECT coalesce(sum(claims), 0) - count(*) FROM chunks WHERE state = 'done' AND claims > 0")
    stack.report.note(f"chunks claimed a second time so far: {taken}")
    stack.up("--no-recreate", workers=2)


def restart_servers(stack: Stack) -> None:
    """Redis and PostgreSQL are restarted, then killed, in the midst of jobs."""
    for service in ("redis", "postgres"):
        _restart(stack, service, "Restart", "restart")
        _restart(stack, service, "Kill", "kill", "-s", "SIGKILL")


def restart_redis(stack: Stack) -> None:
    """Redis alone is restarted in the midst of a job."""
    _restart(stack, "redis", "Restart", "restart")


def _restart(stack: Stack, service: str, how: str, *words: str) -> None:
    stack.report.step(f"{how} {service} in the midst of a job")
    with stack.job_under_way() as job_id:
        before = stack.engine.inspect(stack.engine.containers(service)[0])["State"]["StartedAt"]
        pending = stack.pending(job_id)
        stack.engine.compose(*words, service)
        stack.engine.compose("start", service)
        stack.until(f"{service} is healthy", lambda: stack.healthy(service))
        after = stack.engine.inspect(stack.engine.containers(service)[0])["State"]["StartedAt"]
        stack.report.check(f"{service} has started anew", after > before)
        stack.report.check("the job was in its midst", pending > 0, stack.of_all(pending))


def stop_gracefully(stack: Stack) -> None:
    """Workers that are stopped leave no lease behind."""
    stack.report.step("Stop both workers in the midst of a job")
    with stack.job_under_way() as job_id:
        workers = stack.engine.containers("worker")
        stack.until("leases are held", stack.holders)
        began = time.monotonic()
        stack.engine.compose("stop", "worker")
        stack.report.note(f"stopped after {time.monotonic() - began:.1f} s")
        left = stack.sql("SELECT count(*) FROM chunks WHERE state = 'leased'")
        codes = {stack.engine.inspect(name)["State"]["ExitCode"] for name in workers}
        stack.report.check("they ended by themselves, in order", codes == {0}, f"exit codes {sorted(codes)}")
        stack.report.check("no lease is left", left == "0", f"{left} leased")
        stack.report.check("no worker is registered any more", stack.sql("SELECT count(*) FROM workers") == "0")
        pending = stack.pending(job_id)
        stack.report.check("the job was in its midst", pending > 0, stack.of_all(pending))
        stack.up("--no-recreate", workers=2)


def upgrade(stack: Stack) -> None:
    """Images of a new tag come up over the same volumes, in the midst of a job."""
    report, engine = stack.report, stack.engine
    report.step("Upgrade to images of a new tag, over the same volumes, in the midst of a job")
    before = engine.variables["EMBEDMILL_TAG"]
    jobs = stack.sql("SELECT count(*) FROM jobs")
    engine.variables["EMBEDMILL_TAG"] = f"{before}-next"
    engine.build()
    check_images(stack)
    with stack.job_under_way() as job_id:
        pending = stack.pending(job_id)
        stack.up(workers=2)
        for service in ("api", "worker"):
            images = {engine.inspect(name)["Config"]["Image"] for name in engine.containers(service)}
            report.check(
                f"{service} runs from the new image", {name.split(":")[1] for name in images} == {f"{before}-next"}
            )
        report.check("the job was in its midst", pending > 0, stack.of_all(pending))
    report.check("the jobs of before are there", int(stack.sql("SELECT count(*) FROM jobs")) == int(jobs) + 1)


def monitor(stack: Stack) -> None:
    """Prometheus finds the API and every worker."""
    report, engine = stack.report, stack.engine
    report.step("Monitoring")
    engine.compose("--profile", "monitoring", "up", "-d", "--no-recreate", "prometheus")
    stack.until("prometheus healthy", lambda: stack.healthy("prometheus"))
    check_privileges(stack, ["prometheus"])
    base = f"http://127.0.0.1:{engine.variables['PROMETHEUS_PORT']}/api/v1"

    def targets() -> list[str]:
        active = httpx.get(f"{base}/targets").json()["data"]["activeTargets"]
        return sorted(target["labels"]["job"] for target in active if target["health"] == "up")

    wanted = ["embedmill-api", "embedmill-worker", "embedmill-worker", "prometheus"]
    stack.until("Prometheus reaches the API and both workers", lambda: targets() == wanted)
    report.check("Prometheus reaches the API and both workers", targets() == wanted, ", ".join(targets()))
    found = httpx.get(f"{base}/query", params={"query": 'count({__name__=~"embedmill_.*"})'}).json()["data"]["result"]
    report.check("it has Embedmill's metrics", found, f"{found[0]['value'][1]} series" if found else "none")

    def evaluated() -> list[str]:
        groups = httpx.get(f"{base}/rules").json()["data"]["groups"]
        return [rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "ok"]

    written = (engine.root / "deploy/prometheus/alerts.yml").read_text().count("- alert:")
    stack.until("every alert rule was evaluated", lambda: len(evaluated()) == written, patience=180)
    report.check("it evaluates every alert rule", len(evaluated()) == written, f"{written} rules")
    operating.panels_show(stack, base)


def look_for_secrets(stack: Stack, services: list[str]) -> None:
    """After all of it, nothing that is secret was told anywhere."""
    stack.report.step("Secrets and texts")
    check_nothing_is_told(stack, services)


def from_the_first_schema(stack: Stack, root: Path, options: list[str]) -> None:
    """A job that the oldest program accepted is done by this one, after a migration through every schema."""
    report = stack.report
    report.step(f"Upgrade from the first schema (commit {FIRST_SCHEMA})")
    packed = subprocess.run(["git", "archive", FIRST_SCHEMA], cwd=root, capture_output=True)
    if packed.returncode != 0:
        report.leave_out("the first schema", "this checkout has no history so far back")
        return
    image = "embedmill-base:compose-test-first"
    engine, ports = stack.engine, free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)
        python = engine.variables.get("PYTHON_IMAGE") or "python:3.11.14-slim-bookworm"
        engine.docker(
            "build", "-q", *options, "--target", "base", "--build-arg", f"PYTHON={python}", "-t", image, folder
        )
    own = engine.variables | {"EMBEDMILL_PORT": ports[0]}
    old = Stack(Engine(f"{engine.project}-first", root, own), report, stack.texts)
    old.reference = stack.reference
    try:
        _upgrade_from(old, image)
    finally:
        take_down(old)
        engine.docker("image", "rm", image, check=False)


def _upgrade_from(old: Stack, image: str) -> None:
    report, engine = old.report, old.engine
    engine.compose("up", "-d", "redis", "postgres")
    for service in ("redis", "postgres"):
        old.until(f"{service} healthy", lambda s=service: old.healthy(s))
    words = old.secrets
    places = {
        "EMBEDMILL_DATABASE_URL": f"postgresql://embedmill:{words['postgres_password']}@postgres:5432/embedmill",
        "EMBEDMILL_REDIS_URL": f"redis://embedmill-producer:{words['redis_producer_password']}@redis:6379/0",
    }
    named = [word for name, value in places.items() for word in ("-e", f"{name}={value}")]
    run = ["run", "--rm", "-i", "--network", f"{engine.project}_data", *named, image]
    engine.docker(*run, "migrate")
    first = old.sql("SELECT version_num FROM alembic_version")
    report.check("the old program has made the first schema", first == "0001", first)
    job_id = engine.docker(*run, "submit", "-", stdin="\n".join(old.texts) + "\n").split()[-1]
    report.note(f"job {job_id} was accepted by the old program; no worker has seen it")
    old.up()
    now = old.sql("SELECT version_num FROM alembic_version")
    report.check("migrated to this program's schema", now > first, f"{first} to {now}")
    old.cli("wait", job_id)
    shown = json.loads(old.cli("status", job_id, "--json"))
    report.check("the old job is completed", shown["succeeded"] == len(old.texts), shown["state"])
    lines = old.cli("results", job_id, "-o", "-", "--output-format", "jsonl").splitlines()
    old.check_vectors(np.array([json.loads(line)["vector"] for line in lines], dtype=np.float32))


def take_down(stack: Stack) -> None:
    """Everything of the project goes, its volumes too."""
    stack.engine.compose("--profile", "monitoring", "down", "-v", "--remove-orphans", check=False)
    stack.report.check(f"nothing of {stack.engine.project} is left", not stack.engine.left())


def size_the_job(stack: Stack, sentences: Path, seconds: float) -> None:
    """Make the job as large as one worker needs for so many seconds, so that there is a midst of it."""
    stack.key = stack.cli("keys", "create", "sizing", "--scopes", "admin").split()[-1]
    with stack.client() as client:
        for count in (20, 300):
            began = time.monotonic()
            job = client.submit(make_texts(sentences, count))
            stack.until("the first jobs have ended", lambda j=job: j.status().is_final)
    took = time.monotonic() - began
    stack.texts = make_texts(sentences, max(600, int(300 / took * seconds)))
    stack.report.note(f"300 texts took {took:.1f} s: each job from here on has {len(stack.texts)}")


def _data_of(stack: Stack, service: str) -> str:
    return stack.engine.execute(stack.engine.containers(service)[0], "sh", "-c", "ls -R /data")


def _bearer(stack: Stack) -> dict[str, str]:
    return {"Authorization": f"Bearer {stack.key}"}


def _model(stack: Stack) -> str:
    models = httpx.get(f"{stack.url}/v1/models", headers=_bearer(stack), timeout=60).json()
    return str(models["data"][0]["id"])
