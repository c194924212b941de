"""What containers may do and what is told of them: read from the engine, and tried from inside."""

from __future__ import annotations

import json
import re

from tests.commands import CommandFailed
from tests.compose.stack import CANARY, Stack

#: What a process shows of its rights: none effective, none that it could get, and no way to new ones.
_RIGHTS = r"CapPrm:\s+0+\s+CapEff:\s+0+\s+CapBnd:\s+0+\s"


def check_privileges(stack: Stack, services: list[str]) -> None:
    """Check that containers run as nobody of importance, on a file system they cannot write to."""
    for service in services:
        for container in stack.engine.containers(service):
            _check_container(stack, service, container)


def _check_container(stack: Stack, service: str, container: str) -> None:
    check = stack.report.check
    told = stack.engine.inspect(container)["HostConfig"]
    limits = f"memory {told['Memory'] >> 20} MiB, {told['PidsLimit']} processes"
    check(f"{service}: limits of memory and processes", told["Memory"] > 0 and (told["PidsLimit"] or 0) > 0, limits)
    user = stack.engine.execute(container, "id", "-u")
    check(f"{service}: its user is not root", user.isdecimal() and user != "0", f"uid {user}")
    status = stack.engine.execute(container, "sh", "-c", "cat /proc/self/status /proc/1/status")
    rights = len(re.findall(_RIGHTS, status)) == 2 and len(re.findall(r"NoNewPrivs:\s+1", status)) == 2
    check(f"{service}: no capabilities, and no new privileges", rights)
    written = stack.engine.execute(container, "sh", "-c", "touch /usr/x /opt/x /etc/x 2>&1", check=False)
    check(f"{service}: its root file system is read-only", written.count("Read-only file system") == 3)


def check_servers_refuse(stack: Stack) -> None:
    """Check that Redis and PostgreSQL let nobody do what Embedmill need not."""
    check = stack.report.check
    redis, api = stack.engine.containers("redis")[0], stack.engine.containers("api")[0]
    check("Redis: without a password nothing", "NOAUTH" in stack.engine.execute(redis, "redis-cli", "ping"))
    forbidden = ("flushall", "config set maxmemory 1", "keys '*'", "eval return(1) 0", "lpush elsewhere x")
    for user, more in (("worker", ()), ("producer", ("brpop embedmill:any 1", "del embedmill:any"))):
        log_in = f'REDISCLI_AUTH="$(cat /run/secrets/redis_{user}_password)" redis-cli --user embedmill-{user} '
        check(f"Redis: embedmill-{user} is let in", stack.engine.execute(redis, "sh", "-c", log_in + "ping") == "PONG")
        for command in (*forbidden, *more):
            answer = stack.engine.execute(redis, "sh", "-c", log_in + command.replace("(", "\\(").replace(")", "\\)"))
            check(f"Redis: embedmill-{user} may not: {command}", answer.startswith("NOPERM"), answer[:6])
    ask = "import psycopg, sys; psycopg.connect('postgresql://' + sys.argv[1] + '@postgres/embedmill')"
    for user in ("embedmill", "embedmill_owner", "embedmill_api", "embedmill_worker"):
        for word in ("", "wrong"):
            refused = stack.engine.execute(api, "python", "-c", ask, f"{user}:{word}", check=False)
            check(f"PostgreSQL: {user} not without the password", "password" in refused, f"tried {word!r}")
    _check_roles(stack)


#: What a service's role in PostgreSQL may not do.
_FORBIDDEN = {
    "api": ("CREATE TABLE mine (id int)", "ALTER TABLE jobs ADD mine int", "UPDATE results SET vectors = NULL"),
    "worker": ("CREATE TABLE mine (id int)", "DROP TABLE results", "SELECT * FROM keys", "SELECT * FROM secrets"),
}


def _check_roles(stack: Stack) -> None:
    """Try, as the role that a service has and with the password that is mounted there, what it need not do."""
    ask = (
        "import psycopg, sys; word = open(f'/run/secrets/postgres_{sys.argv[1]}_password').read().strip()\n"
        "psycopg.connect(f'postgresql://embedmill_{sys.argv[1]}:{word}@postgres/embedmill').execute(sys.argv[2])"
    )
    for role, statements in _FORBIDDEN.items():
        container = stack.engine.containers(role)[0]
        asked = ("python", "-c", ask, role)
        counted = stack.engine.execute(container, *asked, "SELECT count(*) FROM jobs", check=False)
        stack.report.check(f"PostgreSQL: embedmill_{role} is let in", counted == "")
        for statement in statements:
            answer = stack.engine.execute(container, *asked, statement, check=False)
            refused = "InsufficientPrivilege" in answer
            stack.report.check(f"PostgreSQL: embedmill_{role} may not: {statement}", refused)


def check_nothing_is_told(stack: Stack, services: list[str]) -> None:
    """Check that no secret and no text is in what the engine tells of a container, in environments or in logs."""
    containers = [(service, name) for service in services for name in stack.engine.containers(service)]
    places = {f"docker inspect {service}": json.dumps(stack.engine.inspect(name)) for service, name in containers}
    look = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'"
    for service, name in containers:
        places[f"environments and arguments in {service}"] = stack.engine.execute(name, "sh", "-c", look, check=False)
    places["all logs"] = stack.engine.compose("logs", "--no-color")
    for image in {stack.engine.inspect(name)["Image"] for _, name in containers}:
        places[f"history of {image[7:19]}"] = stack.engine.docker("history", "--no-trunc", image)
    words = stack.secrets | {"text": CANARY}
    found = [f"{name} in {place}" for place, told in places.items() for name, word in words.items() if word in told]
    what = f"no {', '.join(words)} in any of {len(places)} places: inspect, environments, arguments, logs, history"
    stack.report.check(what, not found, "; ".join(found))


def check_images(stack: Stack) -> None:
    """Check what is in the images, and what their labels say."""
    report, engine, tag = stack.report, stack.engine, stack.engine.variables["EMBEDMILL_TAG"]
    for name in ("embedmill-base", "embedmill-worker"):
        told = engine.inspect(f"{name}:{tag}")
        labels = told["Config"]["Labels"] or {}
        base = sum(1 for _ in told["RootFS"]["Layers"])
        report.note(f"{name}:{tag} {told['Id'][7:19]}, {told['Size'] / 1e6:,.0f} MB in {base} layers")
        shown = (labels.get("org.opencontainers.image.version"), labels.get("org.opencontainers.image.revision"))
        wanted = (tag, engine.variables["EMBEDMILL_REVISION"])
        report.check(f"{name}: labels of version and revision", shown == wanted, " ".join(map(str, shown)))
        report.check(f"{name}: its user is a number", told["Config"]["User"] == "10001:10001")
        run = ("run", "--rm", "--network", "none", "--entrypoint")
        sizes = engine.docker(*run, "du", f"{name}:{tag}", "-sm", "/opt/embedmill").split()[0]
        report.note(f"of which {sizes} MB are Embedmill and its packages, the rest is Python's image")
    look = "import importlib.util as u; print([n for n in ('torch', 'transformers', 'pip') if u.find_spec(n)])"
    inside = engine.docker(*run, "python", f"embedmill-base:{tag}", "-c", look)
    report.check("embedmill-base: neither torch nor transformers nor pip", inside == "[]", inside)
    traces = "import opentelemetry.sdk.trace, opentelemetry.exporter.otlp.proto.http as http; print(http.__name__)"
    for name in ("embedmill-base", "embedmill-worker"):
        inside = engine.docker(*run, "python", f"{name}:{tag}", "-c", traces)
        report.check(f"{name}: traces can be sent", inside == "opentelemetry.exporter.otlp.proto.http")


def check_leaves_out_grafana(stack: Stack) -> bool:
    """Return whether Grafana's image is there or can be got."""
    image = stack.engine.variables.get("GRAFANA_IMAGE", "grafana/grafana:12.1.1")
    try:
        stack.engine.docker("image", "inspect", image)
    except CommandFailed:
        try:
            stack.engine.docker("pull", "-q", image)
        except CommandFailed:
            return False
    return True
