"""`docs/operations.md` is true: its commands run, its arithmetic comes out as printed, Helm takes its fleet."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import yaml

from tests.chart.rendering import of_kind, pods, render
from tests.servers import running_postgres
from tests.service.serving import Served
from tests.service.typedpage import blocks, typed
from tests.stack import free_port

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


def test_the_commands_do_what_the_page_says(served: Served, data_dir: Path, tmp_path: Path) -> None:
    # Given the page's commands that need nothing but this machine, in order
    commands = [block for block in blocks(PAGE) if block.is_typed]
    assert len(commands) >= 4
    # When an operator types them, then all of them succeed, and what is shown as printed was printed
    told = typed(commands, served.url, data_dir, tmp_path, timeout=200)
    shown = [
        (told[block.line], following.code)
        for block, following in itertools.pairwise(blocks(PAGE))
        if block.is_typed and following.language == "text"
    ]
    assert shown and all(printed == expected for printed, expected in shown)


def test_postgres_gets_its_roles_as_the_page_says(tmp_path: Path) -> None:
    # Given the page's commands for a server that is called `postgres`, and a server
    (block,) = [block for block in blocks(PAGE) if "roles.sql" in block.code]
    port = free_port()
    with running_postgres(port) as server:
        path = f"{server.binaries}:{os.environ['PATH']}"
        there = {"PATH": path, "PGHOSTADDR": "127.0.0.1", "PGPORT": str(port)}
        # When an administrator types them in this folder, and for new passwords all but the first line again
        again = replace(block, line=block.line + 1, code=block.code[block.code.index("export") :])
        typed([block, again], "", tmp_path, PAGE.parents[1], timeout=120, environment=there)
        # Then each table belongs to the owner, and the two have what the page's table says
        told = {}
        with psycopg.connect(server.url("embedmill")) as connection:
            owners = connection.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
            assert owners.fetchall() == [("embedmill_owner",)]
            for table, role, rights in connection.execute(
                "SELECT table_name, grantee, array_agg(lower(privilege_type)) FROM information_schema.role_table_grants"
                " WHERE grantee IN ('embedmill_api', 'embedmill_worker') AND table_schema = 'public' GROUP BY 1, 2"
            ):
                told[table, role] = set(rights)
    shown = dict(_rights_of_the_page())
    assert {key: rights for key, rights in shown.items() if rights} == told


def _rights_of_the_page() -> Iterator[tuple[tuple[str, str], set[str]]]:
    """Yield what the page's table says that a role may do with a table."""
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([a-z, ]+) \| ([a-z, ]+) \|$", text, re.MULTILINE)
    everything = {"select", "insert", "update", "delete"}
    for tables, *rights in rows:
        for table in re.findall(r"\w+", tables):
            for role, words in zip(("embedmill_api", "embedmill_worker"), rights, strict=True):
                may = everything if words == "all" else set() if words == "nothing" else set(words.split(", "))
                yield (table, role), may


def test_the_fleet_of_the_page_is_one_that_the_chart_takes() -> None:
    (values,) = [yaml.safe_load(block.code) for block in blocks(PAGE) if block.language == "yaml"]
    objects = render(values)
    assert {"mill-embedmill-worker-minilm", "mill-embedmill-worker-bge"} <= set(pods(objects))
    assert len(of_kind(objects, "Ingress")) == 1
    # The Secret that the page makes has every entry that pods ask for
    made = "".join(block.code for block in blocks(PAGE) if "create secret generic" in block.code)
    asked = {
        item["key"]
        for _, pod in pods(objects).values()
        for volume in pod.get("volumes", [])
        for item in volume.get("secret", {}).get("items", [])
    }
    assert len(asked) == 5 and all(f"--from-literal={key}=" in made for key in asked)


def test_what_the_page_asks_a_cluster_for_is_what_its_fleet_makes() -> None:
    # Given the page's fleet, installed under the name that its commands have
    (values,) = [yaml.safe_load(block.code) for block in blocks(PAGE) if block.language == "yaml"]
    objects = render(values)
    made = {f"{one['kind'].lower()}/{one['metadata']['name']}" for one in objects}
    commands = "".join(block.code for block in blocks(PAGE) if "kubectl" in block.code or "helm" in block.code)
    # Then what they name is there
    named = {name.replace("deploy/", "deployment/") for name in re.findall(r" ((?:deploy|job)/mill-\S+)", commands)}
    assert len(named) >= 3 and named <= made
    # And Helm waits for longer than the migration may take
    (job,) = of_kind(objects, "Job")
    waits = [60 * int(minutes) for minutes in re.findall(r"--timeout (\d+)m", commands)]
    assert len(waits) >= 2 and min(waits) > job["spec"]["activeDeadlineSeconds"]


def test_the_page_says_why_a_block_is_not_run() -> None:
    text = PAGE.read_text(encoding="utf-8")
    left_out = [block for block in blocks(PAGE) if block.language == "sh" and not block.run]
    assert len(left_out) == text.count("<!-- not run: ")
