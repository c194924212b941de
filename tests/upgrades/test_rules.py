"""What a rolling upgrade relies on: migrations only add, who runs works on, who starts knows the schema."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import storage.migrations.versions
from producer.api.settings import ApiSettings
from storage.contract.errors import SchemaMismatch
from storage.contract.messages import MESSAGE_VERSION, Pointer
from storage.contract.models import ModelCard
from storage.database import Database, open_database
from tests.service.serving import serving
from tests.stack import free_port

VERSIONS = sorted(Path(storage.migrations.versions.__file__).parent.glob("v*.py"))

#: What takes something away that a program of the version before may use.
_TAKES = {"drop_table", "drop_column", "rename_table", "drop_constraint"}


#: The same in plain SQL, wherever in a migration it stands.
_TAKING = re.compile(r"\b(DROP|RENAME|SET\s+NOT\s+NULL|UNIQUE|ALTER\s+COLUMN\s+\S+\s+(?:SET\s+DATA\s+)?TYPE)\b", re.I)


def upgrading(file: Path) -> ast.Module:
    """Return a migration without its `downgrade` and without what is said of it; `upgrade`'s helpers are included."""
    module = ast.parse(file.read_text())
    module.body = [one for one in module.body if not (isinstance(one, ast.FunctionDef) and one.name == "downgrade")]
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return module


def calls(module: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Yield what is called of Alembic, by its name."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node.func.attr, node


def words(call: ast.Call) -> dict[str | None, str]:
    """Return what is given to a call by name."""
    return {one.arg: ast.unparse(one.value) for one in call.keywords}


def misfits(file: Path) -> list[str]:
    """Return what of a migration a program of the version before would stumble over."""
    module, found = upgrading(file), []
    made = {ast.unparse(call.args[0]) for name, call in calls(module) if name == "create_table"}
    for name, call in calls(module):
        given = words(call)
        if name in _TAKES or (name == "alter_column" and given.keys() & {"new_column_name", "type_", "nullable"}):
            found.append(name)
        if name == "add_column":
            (column,) = (one for one in call.args if isinstance(one, ast.Call))
            told = words(column)
            if told.get("nullable") != "True" and "server_default" not in told:
                found.append("a new column that may be neither null nor left out")
            if told.get("unique", "False") != "False":
                found.append("what must be unique in a table that was there")
        is_unique = name == "create_index" and given.get("unique", "False") != "False"
        if (is_unique or name == "create_unique_constraint") and not {ast.unparse(one) for one in call.args[:2]} & made:
            found.append("what must be unique in a table that was there")
    texts = [one.value for one in ast.walk(module) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return found + [taken.upper() for text in texts for taken in _TAKING.findall(text)]


@pytest.mark.parametrize("file", VERSIONS[1:], ids=lambda file: file.stem)
def test_a_migration_only_adds_what_an_older_program_need_not_know(file: Path) -> None:
    assert misfits(file) == []


def test_one_that_takes_something_away_would_be_seen(tmp_path: Path) -> None:
    file = tmp_path / "v9999.py"
    file.write_text(
        "def upgrade():\n"
        "    op.drop_column('jobs', 'name')\n"
        "    op.add_column('jobs', sa.Column('flour', sa.Text(), nullable=False))\n"
        "    op.alter_column('jobs', 'model', new_column_name='grain')\n"
        "def downgrade():\n    op.drop_table('jobs')\n"
    )
    assert misfits(file) == ["drop_column", "a new column that may be neither null nor left out", "alter_column"]


def test_one_that_takes_something_away_in_plain_sql_would_be_seen(tmp_path: Path) -> None:
    file = tmp_path / "v9999.py"
    file.write_text(
        "'Drop nothing.'\n"
        "_STATEMENT = 'alter table jobs rename column name to title'\n"
        "def upgrade():\n"
        "    'Drop nothing, either.'\n"
        "    op.execute(_STATEMENT)\n"
        "    op.execute(f'ALTER TABLE {table} ALTER COLUMN name SET NOT NULL')\n"
        "    op.execute('ALTER TABLE jobs DROP COLUMN name')\n"
        "def downgrade():\n    op.execute('DROP TABLE jobs')\n"
    )
    assert misfits(file) == ["RENAME", "DROP", "SET NOT NULL"]


def test_one_that_forbids_what_was_allowed_would_be_seen(tmp_path: Path) -> None:
    file = tmp_path / "v9999.py"
    file.write_text(
        "def upgrade():\n"
        "    op.create_table('sacks', sa.Column('id', sa.Text(), nullable=False))\n"
        "    op.create_index('ix_sacks_id', 'sacks', ['id'], unique=True)\n"
        "    op.create_index('ix_jobs_name', 'jobs', ['name'], unique=True)\n"
        "    op.create_unique_constraint('uq_jobs_name', 'jobs', ['name'])\n"
        "    op.add_column('jobs', sa.Column('flour', sa.Text(), nullable=True, unique=True))\n"
    )
    assert misfits(file) == ["what must be unique in a table that was there"] * 3


def test_who_runs_works_on_with_a_newer_schema_and_who_starts_refuses_it(database_url: str) -> None:
    database = Database(database_url)
    try:
        # Given a service that runs, when the schema of a release to come is installed beside it
        with serving(
            ApiSettings.load(database_url=database_url, redis_url=f"redis://127.0.0.1:{free_port()}")
        ) as served:
            _set(database, "9999")
            # Then it stays ready, and takes jobs
            with served.http() as http:
                told = http.get("/readyz").json()
                assert told["storage"] == "ready"
                assert http.post("/v1/jobs", json={"texts": ["a text"]}).status_code == 202
            # And whoever starts now says what to do
            with pytest.raises(SchemaMismatch, match=r"newer than this program knows .* Upgrade embedmill"):
                open_database(ApiSettings.load(database_url=database_url))
            # And an older one is too old for who runs, too
            _set(database, "0001")
            with served.http() as http:
                assert "0001" in http.get("/readyz").json()["storage"]
    finally:
        from storage.database import SCHEMA_VERSION

        _set(database, SCHEMA_VERSION)
        database.close()


def _set(database: Database, version: str) -> None:
    with database.write() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{version}'")


def test_messages_and_cards_of_both_versions_are_read_by_both() -> None:
    job = "0190a000-0000-7000-8000-000000000001"
    # What a release to come adds to a message is passed over; a message of another kind is left to storage
    assert Pointer.from_message({"v": MESSAGE_VERSION, "job_id": job, "chunk": 3, "colour": "red"}) == Pointer(job, 3)
    assert Pointer.from_message({"v": MESSAGE_VERSION + 1, "job_id": job, "chunk": 3}) is None
    # The first release's message, letter by letter
    assert Pointer(job, 3).to_message() == {"v": 1, "job_id": job, "chunk": 3}
    card = ModelCard("mill/grain", "rev-1", "float32", 4, 128, 2, "mean", True)
    assert ModelCard.from_dict(card.to_dict() | {"colour": "red"}) == card
