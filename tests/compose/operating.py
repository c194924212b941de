"""The steps of whoever operates the stack: more workers than two, a restore, and what the dashboard asks for."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import httpx

from storage.contract.errors import UnknownJob
from tests.compose.stack import Stack

#: What there is nothing of where there is no GPU.
_ELSEWHERE = ("embedmill_gpu_",)

#: Checks of the doctor that a machine which does much else may fail, however it is set up.
_OF_THE_MOMENT = {"latency", "clock", "workers", "defences", "leases", "unclaimed"}


def four_workers(stack: Stack) -> None:
    """The scale that docs/operations.md shows, and a doctor who has nothing to warn of."""
    stack.report.step("Scale to four workers")
    stack.scale(4)
    with stack.job_under_way():
        stack.report.check("four workers serve", stack.sql("SELECT count(*) FROM workers") == "4")
    told = json.loads(stack.cli("doctor", "--json", check=False))
    amiss = {one["check"]: f"{one['area']}: {one['found']}" for one in told["checks"] if _is_amiss(one)}
    for check in _OF_THE_MOMENT & set(amiss):
        stack.report.note(f"doctor, of a machine that does much else: {amiss.pop(check)}")
    stack.report.check("doctor finds nothing amiss", not amiss, "; ".join(amiss.values()))
    found = next(one["found"] for one in told["checks"] if (one["area"], one["check"]) == ("database", "connections"))
    stack.report.note(found)
    stack.scale(2)


def _is_amiss(check: dict[str, Any]) -> bool:
    return check["verdict"] in ("warning", "wrong")


def redis_kept_all(stack: Stack) -> None:
    """Redis has read its append-only file again without refusing anything in it."""
    log = stack.engine.compose("logs", "--no-color", "redis")
    starts, refused = log.count("Ready to accept connections"), log.count("NOPERM")
    stack.report.check("Redis refused nothing of its own file at its starts", not refused, f"{starts} starts")


def restore(stack: Stack) -> None:
    """The database is dumped, and brought back, by the commands of docs/containers.md as they stand."""
    report, engine = stack.report, stack.engine
    report.step("Back up and restore, by the commands of docs/containers.md")
    dump, *back = _blocks(engine.root / "docs/containers.md", "Back up and restore")
    engine.variables["EMBEDMILL_WORKERS"] = "2"
    jobs = stack.sql("SELECT count(*) FROM jobs")
    whole = stack.sql(
        "SELECT id FROM jobs WHERE id IN (SELECT job_id FROM chunks GROUP BY job_id"
        f" HAVING sum(size) = {len(stack.texts)}) ORDER BY id DESC LIMIT 1"
    )
    with stack.client() as client, tempfile.TemporaryDirectory() as folder:
        engine.typed(dump.replace("mill.dump", f"{folder}/mill.dump"))
        later = client.submit(stack.texts[:20])
        stack.until("a job of after the dump has ended", lambda: later.status().is_final)
        for block in back:
            engine.typed(block.replace("mill.dump", f"{folder}/mill.dump"))
        for service, count in (("redis", 1), ("postgres", 1), ("api", 1), ("worker", 2)):
            stack.until(f"{count} {service} healthy", lambda s=service, n=count: len(stack.healthy(s)) == n)
        report.check("the jobs of before are there", stack.sql("SELECT count(*) FROM jobs") == jobs, f"{jobs} jobs")
        stack.check_job(client.job(whole))
        try:
            client.job(later.id).status()
            unknown = False
        except UnknownJob:
            unknown = True
        report.check("what came after the dump is unknown", unknown)
        job = client.submit(stack.texts)
        stack.until("a new job has ended", lambda: job.status().is_final)
        stack.check_job(job)


def _blocks(page: Path, section: str) -> list[str]:
    """Return the indented blocks of a section."""
    text = page.read_text(encoding="utf-8").split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    return [
        re.sub("^    ", "", found, flags=re.MULTILINE) for found in re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    ]


def panels_show(stack: Stack, base: str) -> None:
    """Every expression of the dashboard is valid, and finds something, in the Prometheus of the stack."""
    dashboard = json.loads((stack.engine.root / "deploy/grafana/dashboards/embedmill.json").read_text())
    asked = [
        (
            panel["title"],
            target["expr"].replace("$__rate_interval", "2m").replace("$model", ".*").replace("$namespace", ".*"),
        )
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]

    def empty() -> list[str]:
        found = []
        for title, expression in asked:
            answer = httpx.get(f"{base}/query", params={"query": expression}).json()
            if answer["status"] != "success" or not answer["data"]["result"]:
                found += [f"{title}: {answer.get('error', expression)}"]
        return [one for one in found if not any(name in one for name in _ELSEWHERE)]

    with stack.job_under_way():
        stack.until("every panel has something to show", lambda: not empty(), patience=300)
        none = empty()
    stack.report.check("every expression of the dashboard but a GPU's finds something", not none, f"{len(asked)} asked")
