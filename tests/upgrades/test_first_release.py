"""A database of the first release, migrated step by step: nothing of it is lost, and what was left undone is done."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

import storage.migrations
from storage.database import SCHEMA_VERSION, Database
from storage.migrations import migrate
from tests.faults.encoder import vectors_of
from tests.faults.ledger import Line
from tests.faults.mill import Mill
from tests.faults.running import running_mill
from tests.faults.texts import id_of, texts_of

#: Written by the first release itself (`first_release.py`).
FIRST: dict[str, Any] = json.loads(Path(__file__).with_name("first_release.json").read_text())

_LENGTH = 2_000

#: What the first release was asked for, and how each job is to end.
LINES = [
    Line("whole", 50, _LENGTH, ids=True, key="monday"),
    Line("half", 20, _LENGTH, options={"store_dtype": "float16"}),
    Line("flawed", 40, _LENGTH, ids=True),
    Line("stopped", 60, _LENGTH, outcome="cancelled"),
    Line("refused", 20, _LENGTH, outcome="failed"),
    Line("moving", 90, _LENGTH, ids=True),
    Line("waiting", 40, _LENGTH),
    Line("urgent", 5, _LENGTH),
    Line("kept", 30, _LENGTH, ids=True),
]


def steps() -> list[str]:
    """Return every version of the schema, oldest first."""
    config = Config()
    config.set_main_option("script_location", str(Path(storage.migrations.__file__).parent))
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]


def restore(database: Database) -> None:
    """Make the first release's schema, and put its rows in with plain SQL."""
    migrate(database, "0001")
    with database.write() as connection:
        for table in ("models", "workers", "leaders", "jobs", "chunks", "inputs", "results"):
            for row in FIRST["rows"][table]:
                values = {name: _value(name, value) for name, value in row.items()}
                marks = (f":{name}" if database.is_sqlite else f"%({name})s" for name in values)
                statement = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(marks)})"
                connection.exec_driver_sql(statement, values)


def _value(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return base64.b64decode(value["base64"])
    return bool(value) if name == "has_ids" else value


def upgrade(database: Database) -> None:
    """Migrate the first release's database one step after another."""
    restore(database)
    versions = steps()
    assert versions[0] == "0001" == FIRST["rows"]["alembic_version"][0]["version_num"]
    for step in versions[1:]:
        for _ in range(2):  # whoever runs it again finds nothing to do
            migrate(database, step)
            assert database.schema_version() == step
    assert versions[-1] == SCHEMA_VERSION


def job_of(mill: Mill, tag: str) -> Any:
    return mill.client.job(FIRST["jobs"][tag])


def vectors(line: Line, start: int = 0, stop: int | None = None) -> Any:
    return vectors_of(list(texts_of(line.tag, start, line.count if stop is None else stop, line.length)))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_whatever_the_first_release_left_is_read_and_brought_to_its_end(kind: str) -> None:
    whole, half, flawed = LINES[:3]
    with running_mill(kind, workers=0, made=upgrade) as mill:
        # Given a database of the first release's, migrated step by step; when read before anybody has worked
        assert job_of(mill, "whole").vectors().tobytes() == vectors(whole).tobytes()
        kept = vectors(half).astype(np.float16)
        assert np.array_equal(job_of(mill, "half").vectors(), kept.astype(np.float32))
        # Then items, ids, counts of tokens and errors are those that were
        first = next(iter(job_of(mill, "whole").results()))
        assert (first.id, first.truncated) == (id_of("whole", 0), False) and first.tokens > 400
        assert [error.id for error in job_of(mill, "flawed").errors()] == [id_of("flawed", 1), id_of("flawed", 3)]
        told = {tag: job_of(mill, tag).status() for tag in FIRST["jobs"] if tag != "abandoned"}
        assert all(one.succeeded + one.failed + one.cancelled + one.pending == one.total for one in told.values())
        assert (told["moving"].state, told["moving"].pending > 0) == ("running", True)
        assert told["refused"].error is not None and told["refused"].error["code"] == "model_refused"
        # And the same payload with the same key is still the same job
        again = mill.client.submit(
            texts_of("whole", 0, 50, _LENGTH), ids=[id_of("whole", n) for n in range(50)], idempotency_key="monday"
        )
        assert again.id == FIRST["jobs"]["whole"]
        # When a worker of today starts, and what failed is tried again
        for line in LINES:
            mill.ledger.append(line)
            mill.ledger.append(line.accepted(FIRST["jobs"][line.tag]))
        assert job_of(mill, "flawed").retry_failed() == 2
        mill.start_supervisor()
        mill.wait_complete(240)
        # Then every job has come to its end, each vector its text's to the last bit
        assert job_of(mill, "flawed").vectors().tobytes() == vectors(flawed).tobytes()
        assert job_of(mill, "moving").status().succeeded == 90
        report = mill.judge()
        report.assert_clean()
        assert report.jobs == len(LINES)
