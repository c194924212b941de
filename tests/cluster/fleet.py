"""One release of the chart: its values, jobs submitted to it through its Service, and what they must give."""

from __future__ import annotations

import base64
import copy
import io
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.chart.cases import ROLES
from tests.cluster.kubectl import Cluster, Object, is_ready, name_of, restarts
from tests.cluster.servers import Servers
from tests.commands import CommandFailed, until
from tests.compose.report import Report
from tests.compose.stack import unit

#: Longest wait for anything, in seconds.
PATIENCE = 600.0

#: What each pod of the release is of.
COMPONENTS = ("api", "worker-minilm", "reconciler")

#: Programs that the client's pod runs; they are told by their standard input.
_SUBMIT = """
import json, sys
from embedmill import Client
asked = json.load(sys.stdin)
with Client(asked["url"], api_key=asked["key"]) as client:
    print(client.submit(asked["texts"]).id)
"""
_FETCH = """
import base64, io, json, sys
import numpy
from embedmill import Client
asked, out = json.load(sys.stdin), io.BytesIO()
with Client(asked["url"], api_key=asked["key"]) as client:
    job = client.job(asked["job"])
    status = job.status()
    numpy.save(out, job.vectors())
told = {"state": str(status.state), "total": status.total, "succeeded": status.succeeded, "tokens": status.tokens}
print(json.dumps(told | {"vectors": base64.b64encode(out.getvalue()).decode()}))
"""
_ASK = """
import json, sys, urllib.request, urllib.error
asked = json.load(sys.stdin)
headers = {"Authorization": "Bearer " + asked["key"]} if asked["key"] else {}
body = json.dumps(asked["body"]).encode() if asked["body"] else None
headers |= {"Content-Type": "application/json"} if body else {}
try:
    with urllib.request.urlopen(urllib.request.Request(asked["url"], body, headers), timeout=60) as answer:
        code, told = answer.status, answer.read().decode()
except urllib.error.HTTPError as refused:
    code, told = refused.code, refused.read().decode()
print(json.dumps([code, told]))
"""
#: Asks on a new connection five times a second until its pod has a file /tmp/enough.
_WATCH = """
import json, os, sys, time, urllib.request
asked, failed = 0, []
while not os.path.exists("/tmp/enough"):
    asked += 1
    try:
        urllib.request.urlopen(sys.argv[1], timeout=10).read()
    except Exception as error:
        failed.append(repr(error))
    time.sleep(0.2)
os.remove("/tmp/enough")
print(json.dumps([asked, failed]))
"""


class Fleet:
    """What the steps work with.

    Args:
        cluster: Runs the commands.
        servers: Redis and PostgreSQL.
        report: Where what was found goes.
        images: Registry and tag of Embedmill's images.
    """

    def __init__(self, cluster: Cluster, servers: Servers, report: Report, images: tuple[str, str]) -> None:
        self.cluster, self.servers, self.report = cluster, servers, report
        self.texts: list[str] = []
        self.key = ""
        #: The vectors of the first job, which those of all others must be like.
        self.reference: NDArray[np.float32] | None = None
        #: The values that the release has now.
        self.values = _values(*images)

    @property
    def name(self) -> str:
        """What the chart calls its objects."""
        return f"{self.cluster.release}-embedmill"

    @property
    def url(self) -> str:
        """The Service, as pods of the namespace call it."""
        return f"http://{self.name}-api:8000"

    @property
    def secrets(self) -> dict[str, str]:
        """The words that must not be seen anywhere, by their names."""
        return self.servers.passwords | ({"key": self.key} if self.key else {})

    def changed(self, **parts: Object) -> Object:
        """Return the values with parts of them changed, each one level deep."""
        values = copy.deepcopy(self.values)
        for name, part in parts.items():
            values[name] = values.get(name, {}) | part
        return values

    def until(self, what: str, holds: Callable[[], Any], patience: float = PATIENCE) -> Any:
        """Wait until something is so; the cluster may fail to answer meanwhile.

        Raises:
            TimeoutError: When it is not in time.
        """
        return until(what, holds, patience, CommandFailed)

    def until_rolled_out(self) -> None:
        """Wait until every Deployment of the release runs what it should, as `kubectl rollout status` has it."""
        for component in COMPONENTS:
            self.cluster.kubectl("rollout", "status", f"deploy/{self.name}-{component}", "--timeout", f"{PATIENCE}s")

    def deployments(self) -> dict[str, tuple[int, int]]:
        """Return each Deployment's generation, which changes with its spec, and how many pods are ready."""
        found = self.cluster.get("deployments", "-l", f"app.kubernetes.io/instance={self.cluster.release}")
        return {name_of(d): (d["metadata"]["generation"], d["status"].get("readyReplicas", 0)) for d in found}

    def pods_and_restarts(self) -> dict[str, int]:
        """Return every pod of the release that is ready, and how often it was started again."""
        found = [pod for component in COMPONENTS for pod in self.cluster.pods(component)]
        return {name_of(pod): restarts(pod) for pod in found if is_ready(pod)}

    def ask(self, path: str, body: Object | None = None, *, key: bool = True) -> tuple[int, str]:
        """Ask the service, through its Service, from the client's pod; return the status and the answer."""
        asked = {"url": self.url + path, "key": self.key if key else "", "body": body}
        code, told = json.loads(self.cluster.execute("client", "python", "-c", _ASK, stdin=json.dumps(asked)))
        return int(code), str(told)

    def submit(self, texts: list[str] | None = None) -> str:
        """Submit texts through the Service; return the job's id."""
        asked = {"url": self.url, "key": self.key, "texts": self.texts if texts is None else texts}
        return self.cluster.execute("client", "python", "-c", _SUBMIT, stdin=json.dumps(asked))

    def fetch(self, job_id: str) -> tuple[Object, NDArray[np.float32]]:
        """Return a job's status and its vectors, got through the Service."""
        asked = {"url": self.url, "key": self.key, "job": job_id}
        told = json.loads(self.cluster.execute("client", "python", "-c", _FETCH, stdin=json.dumps(asked)))
        return told, np.load(io.BytesIO(base64.b64decode(told.pop("vectors"))))

    def state(self, job_id: str) -> str:
        """Return a job's state."""
        return self.servers.sql(f"SELECT state FROM jobs WHERE id = '{job_id}'")

    def done(self, job_id: str) -> int:
        """Return how many items of a job are done."""
        return int(
            self.servers.sql(f"SELECT coalesce(sum(size), 0) FROM chunks WHERE job_id = '{job_id}' AND state = 'done'")
        )

    def check_midst(self, job_id: str) -> None:
        """Check that a job is in its midst; where it is not, what is then done to it shows nothing."""
        pending = len(self.texts) - self.done(job_id)
        self.report.check("the job was in its midst", pending > 0, f"{pending} of {len(self.texts)} pending")

    def holders(self) -> list[str]:
        """Return the pods that hold leases now: a worker's host is its pod's name."""
        leased = "SELECT DISTINCT w.host FROM chunks c JOIN workers w ON w.id = c.lease_owner WHERE c.state = 'leased'"
        return self.servers.sql(leased).split()

    @contextmanager
    def job_under_way(self) -> Iterator[str]:
        """Submit the texts and yield the job's id once it is under way; in the end wait for it and check it whole.

        Raises:
            Broken: When it is not whole.
        """
        job_id = self.submit()
        self.until("the job is under way", lambda: self.done(job_id) > 0)
        yield job_id
        began = time.monotonic()
        self.until("the job has ended", lambda: self.state(job_id) == "completed")
        self.report.note(f"the job ended {time.monotonic() - began:.0f} s later")
        self.check_job(job_id)

    def check_job(self, job_id: str) -> None:
        """Check that a job has a vector for every text, and the one that it must have."""
        status, vectors = self.fetch(job_id)
        counts = f"{status['state']}, {status['succeeded']} of {status['total']} succeeded"
        whole = status["succeeded"] == status["total"] == len(self.texts) == len(vectors)
        self.report.check("every text has its vector", whole, counts)
        if self.reference is None:
            self.reference = vectors
            return
        least = float((unit(vectors) * unit(self.reference)).sum(axis=1).min())
        self.report.check("row by row they are those of the first job", least > 0.99999, f"least cosine {least:.7f}")

    @contextmanager
    def asked_all_the_while(self) -> Iterator[None]:
        """Ask the service through its Service all the while, and check that it always answered."""
        asking = self.cluster.started("client", "python", "-c", _WATCH, f"{self.url}/healthz")
        try:
            yield
            self.cluster.execute("client", "touch", "/tmp/enough")
            asked, failed = json.loads(asking.communicate(timeout=60)[0])
        finally:
            _end(asking)
        told = f"{asked} calls, each on a connection of its own"
        self.report.check("the service answered all the while", not failed, f"{told}; {failed[:3]}" if failed else told)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


def _values(registry: str, tag: str) -> Object:
    """Return docs/operations.md's fleet without its GPUs, small enough for one small node, with a private authority."""
    ca = {
        "extraVolumes": [{"name": "ca", "secret": {"secretName": "embedmill-ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca", "readOnly": True}],
    }
    worker = {"requests": {"cpu": "200m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "4Gi"}}
    return {
        "image": {
            "registry": registry,
            "base": {"repository": "embedmill-base", "tag": tag},
            "worker": {"repository": "embedmill-worker", "tag": tag},
        },
        "servers": ROLES,
        "settings": {"keepDays": 30},
        "api": ca
        | {
            "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
            "ingress": {"enabled": True, "className": "nginx", "hosts": [{"host": "embed.example.org"}]},
        },
        "reconciler": ca,
        "migration": ca,
        # Measured anew at each start, batches would not be the same; and the same vectors are asked for.
        "workers": [ca | {"name": "minilm", "devices": "cpu", "dtype": "float32", "resources": worker}],
        "networkPolicy": {"redis": {"ports": [6380]}},
    }
