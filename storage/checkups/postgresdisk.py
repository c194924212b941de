"""What room the disks of a PostgreSQL server have, where it runs on this host."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import text

from storage.checkups.check import Outcome, Verdict, not_checked
from storage.checkups.places import room
from storage.database import Database

#: One reading: which server process answers us, where the server keeps its data, which it does not tell every role, and
#: where the tables of this database lie if not there.
_PLACES = text(
    "SELECT pg_backend_pid() AS pid, (SELECT setting FROM pg_settings WHERE name = 'data_directory') AS folder,"
    " pg_tablespace_location(dattablespace) AS tables FROM pg_database WHERE datname = current_database()"
)

#: Folders of a server that often lie on disks of their own: its tables, and its log.
_PARTS = ("base", "pg_wal")

_ALARM = "and be told days ahead: docs/observability.md, EmbedmillStorageFull, has the alerts."

_WORST = (Verdict.WRONG, Verdict.WARNING, Verdict.OK)


def check_room(database: Database) -> Outcome:
    """Return what is to be said of the server's disks; of one elsewhere, what to do."""
    with database.read() as connection:
        found = connection.execute(_PLACES).one()
    if not _runs_here(found.pid):
        return not_checked("PostgreSQL does not tell how full its disk is.", f"Look on its host, df -h, {_ALARM}")
    folder = found.folder or _folder_of(found.pid)
    if folder is None or not os.path.exists(folder):
        return not_checked(
            "PostgreSQL runs on this host, and does not tell this role where its data are.",
            f"GRANT pg_read_all_settings to it, or look with df -h, {_ALARM}",
        )
    outcomes = [room(place) for place in _on_disks_of_their_own(Path(folder), found.tables)]
    return min(outcomes, key=lambda outcome: _WORST.index(outcome.verdict))


def _runs_here(pid: int) -> bool:
    """Whether the server's process is one of this host's; an address does not tell, behind a tunnel or a container."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().startswith("postgres")
    except OSError:
        return False


def _folder_of(pid: int) -> str | None:
    """Return the folder that a server process works in, its data's, as its own user and root may see it."""
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return None


def _on_disks_of_their_own(folder: Path, tables: str) -> list[Path]:
    """Return one place on each disk that a server's data lie on, as far as this user may look."""
    places = [folder, *(folder / part for part in _PARTS), *([Path(tables)] if tables else [])]
    disks: dict[int, Path] = {}
    for place in places:
        if os.path.exists(place):
            disks.setdefault(os.stat(place).st_dev, place)
    return list(disks.values())
