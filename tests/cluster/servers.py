"""Redis and PostgreSQL for the test's namespace: TLS, a user for each side, and nothing that outlives the pod."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

from tests.chart.rendering import ROOT
from tests.cluster.kubectl import Cluster, Object
from tests.machines.authority import Authority

#: Users of the two servers, by the names of the files that deploy/redis and deploy/postgres read their passwords from.
_USERS = ("postgres", "postgres_owner", "postgres_api", "postgres_worker", "redis_worker", "redis_producer")

#: Runs PostgreSQL as often as it ends, unless somebody says that it shall stay away.
_POSTGRES = """
install -o postgres -m 600 /tls/tls.key /hold/tls.key
while :; do
  [ -e /hold/away ] || docker-entrypoint.sh postgres -c ssl=on -c ssl_cert_file=/tls/tls.crt \
    -c ssl_key_file=/hold/tls.key -c max_connections=200
  sleep 1
done
"""

#: A probe under load is not a sign of death.
_PATIENT = {"timeoutSeconds": 10, "failureThreshold": 6}

_TLS = ["--port", "0", "--tls-port", "6380", "--tls-auth-clients", "no", "--tls-cert-file", "/tls/tls.crt"]
_TLS += ["--tls-key-file", "/tls/tls.key", "--tls-ca-cert-file", "/tls/tls.crt"]


class Servers:
    """The two servers, their passwords and the authority that signed their certificates.

    Args:
        cluster: Where they run.
        redis_image: Image of Redis, with TLS.
        postgres_image: Image of PostgreSQL, with the habits of the official one.
    """

    def __init__(self, cluster: Cluster, redis_image: str, postgres_image: str) -> None:
        self._cluster = cluster
        self._images = redis_image, postgres_image
        #: Each user's password.
        self.passwords = {f"{user}_password": secrets.token_hex(24) for user in _USERS}

    def start(self) -> None:
        """Make the two servers, their certificates and what clients know them by."""
        words = [word for pair in self.passwords.items() for word in ("--from-literal", "=".join(pair))]
        self._cluster.kubectl("create", "secret", "generic", "server-passwords", *words)
        config = [f"--from-file={file}" for file in sorted((ROOT / "deploy/redis").iterdir())]
        self._cluster.kubectl("create", "configmap", "redis-files", *config)
        with tempfile.TemporaryDirectory() as folder:
            authority = Authority(Path(folder))
            for server in ("redis", "postgres"):
                made = authority.certify(server)
                files = (f"--cert={made.chain}", f"--key={made.key}")
                self._cluster.kubectl("create", "secret", "tls", f"{server}-tls", *files)
            self._cluster.kubectl("create", "secret", "generic", "embedmill-ca", f"--from-file=ca.pem={authority.file}")
        self._cluster.apply(*self._redis(), *self._postgres())

    def urls(self) -> dict[str, str]:
        """Return the entries of the Secret that the chart reads, as docs/operations.md names them."""
        found = {}
        for entry, user, word in (("redis-url", "producer", "producer"), ("worker-redis-url", "worker", "worker")):
            password = self.passwords[f"redis_{word}_password"]
            found[entry] = f"rediss://embedmill-{user}:{password}@redis:6380/0?ssl_ca_certs=/ca/ca.pem"
        for entry, role in (("", "api"), ("worker-", "worker"), ("owner-", "owner")):
            found[f"{entry}database-url"] = self.database_url(role, self.passwords[f"postgres_{role}_password"])
        return found

    def database_url(self, role: str, password: str) -> str:
        """Return the database's URL for a role."""
        tls = "sslmode=verify-full&sslrootcert=/ca/ca.pem"
        return f"postgresql://embedmill_{role}:{password}@postgres:5432/embedmill?{tls}"

    def make_roles(self) -> None:
        """Make the database and its roles, by the commands of docs/operations.md."""
        words = ["createdb", "--username", "postgres", "--encoding", "UTF8", "--locale", "C"]
        words += ["--template", "template0", "embedmill"]
        self._cluster.execute("deploy/postgres", *words)
        file = (ROOT / "deploy/postgres/roles.sql").read_text()
        run = ["psql", "--username", "postgres", "--dbname", "embedmill", "--quiet", "--file", "-"]
        self._cluster.execute("deploy/postgres", *run, stdin=file)

    def sql(self, statement: str) -> str:
        """Ask the database as its administrator."""
        command = ["psql", "-U", "postgres", "-d", "embedmill", "-tAc", statement]
        return self._cluster.execute("deploy/postgres", *command)

    def take_postgres_away(self) -> None:
        """End PostgreSQL, and let it not come back."""
        stop = 'touch /hold/away; gosu postgres pg_ctl stop -m fast || su postgres -c "pg_ctl stop -m fast"'
        self._cluster.execute("deploy/postgres", "sh", "-c", stop, check=False)

    def bring_postgres_back(self) -> None:
        """Start PostgreSQL again."""
        self._cluster.execute("deploy/postgres", "rm", "/hold/away")

    def _redis(self) -> list[Object]:
        container = {
            "image": self._images[0],
            "command": ["sh", "/etc/embedmill/start.sh", *_TLS],
            "securityContext": {"runAsUser": 999, "runAsGroup": 999, "allowPrivilegeEscalation": False},
            "readinessProbe": {"tcpSocket": {"port": 6380}, "periodSeconds": 2} | _PATIENT,
        }
        files = {"name": "files", "configMap": {"name": "redis-files"}}
        places = {"data": "/data", "tmp": "/tmp", "files": "/etc/embedmill"}
        return _server("redis", 6380, container, [files, _room("data"), _room("tmp")], places)

    def _postgres(self) -> list[Object]:
        told = [{"name": "POSTGRES_PASSWORD_FILE", "value": "/run/secrets/postgres_password"}]
        for role in ("owner", "api", "worker"):
            entry = {"name": "server-passwords", "key": f"postgres_{role}_password"}
            told.append({"name": f"EMBEDMILL_{role.upper()}_PASSWORD", "valueFrom": {"secretKeyRef": entry}})  # type: ignore[dict-item]
        container = {
            "image": self._images[1],
            "command": ["sh", "-c", _POSTGRES],
            "env": told,
            "readinessProbe": {"exec": {"command": ["pg_isready", "-h", "127.0.0.1"]}, "periodSeconds": 2} | _PATIENT,
        }
        places = {"data": "/var/lib/postgresql/data", "hold": "/hold"}
        return _server("postgres", 5432, container, [_room("data"), _room("hold")], places)


def _room(name: str) -> Object:
    return {"name": name, "emptyDir": {}}


def _server(name: str, port: int, container: Object, volumes: list[Object], places: dict[str, str]) -> list[Object]:
    """Return the Deployment and the Service of a server, with its passwords and its certificate mounted."""
    labels = {"app": name}
    volumes = [
        *volumes,
        {"name": "tls", "secret": {"secretName": f"{name}-tls"}},
        {"name": "passwords", "secret": {"secretName": "server-passwords"}},
    ]
    mounted = places | {"tls": "/tls", "passwords": "/run/secrets"}
    mounts = [{"name": volume, "mountPath": path} for volume, path in mounted.items()]
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {"fsGroup": 999} if name == "redis" else {},
        # Without a request a server would get what all others leave, which on a busy node is nothing.
        "containers": [container | {"name": name, "volumeMounts": mounts, "resources": {"requests": {"cpu": "300m"}}}],
        "volumes": volumes,
    }
    spec = {
        "replicas": 1,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    meta = {"name": name, "labels": labels}
    service = {"selector": labels, "ports": [{"port": port}]}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service},
    ]
