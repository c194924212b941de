"""The oracle sees what it is there to see: each kind of damage, done by hand to a job that was right."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.faults.encoder import vectors_of
from tests.faults.ledger import Ledger
from tests.faults.oracle import Oracle, Report, expected_vector
from tests.faults.plain import PlainDatabase
from tests.faults.running import running_mill
from tests.faults.servers import carried
from tests.faults.texts import CANARY, text_of

#: Statements on a copy of a right database, and in which of the report's lists they are to show.
DAMAGE = {
    "lost": [
        "DELETE FROM results WHERE number = 1",
        "DELETE FROM chunks WHERE number = 1",
        "DELETE FROM chunks WHERE number = (SELECT max(number) FROM chunks)",
        "UPDATE jobs SET state = 'accepting'",
        "DELETE FROM jobs",
    ],
    "twice": [
        "UPDATE results SET token = token WHERE number = 1",
        "INSERT INTO commit_log (job_id, number, token) SELECT job_id, number, token + 1 FROM results WHERE number = 1",
        "UPDATE chunks SET first = first - 1 WHERE number = 1",
    ],
    "differing": [
        "UPDATE results SET vectors = zeroblob(length(vectors)) WHERE number = 1",
        "UPDATE results SET vectors = (SELECT vectors FROM results WHERE number = 0) WHERE number = 1",
        'UPDATE results SET errors = \'{"0": ["poison", "?"]}\' WHERE number = 1',
        "UPDATE results SET errors = NULL",
        "UPDATE results SET token = token + 1 WHERE number = 1",
        "UPDATE chunks SET succeeded = succeeded - 1 WHERE number = 1",
        "UPDATE inputs SET ids = (SELECT ids FROM inputs WHERE number = 0) WHERE number = 1",
        "UPDATE jobs SET total = total + 1",
        "UPDATE jobs SET state = 'cancelled'",
    ],
    "stuck": [
        "UPDATE jobs SET state = 'running'",
        "UPDATE chunks SET state = 'leased' WHERE number = 1",
        "UPDATE chunks SET state = 'pending' WHERE number = 1",
    ],
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the database and the ledger of one job that was done."""
    folder = tmp_path_factory.mktemp("done")
    with running_mill() as mill:
        mill.submit(60, length=2_000, ids=True, markers={7: "!raise"})
        mill.wait_complete()
        mill.sql("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(mill.folder / "mill.sqlite3", folder)
        shutil.copy(mill.ledger.path, folder)
    yield folder


def judged(folder: Path, *statements: str, redis: list[bytes] | None = None) -> Report:
    database = PlainDatabase(f"sqlite:///{folder / 'mill.sqlite3'}")
    for statement in statements:
        database.rows(statement)
    report = Oracle(database, Ledger(folder / "ledger")).judge(folder, redis)
    database.close()
    return report


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "copy"))


def test_what_is_right_is_clean(copy: Path) -> None:
    report = judged(copy)
    assert report.is_clean, report.summary()
    assert (report.jobs, report.items) == (1, 60)


@pytest.mark.parametrize(("kind", "statement"), [(kind, sql) for kind, every in DAMAGE.items() for sql in every])
def test_damage_is_seen(copy: Path, kind: str, statement: str) -> None:
    assert getattr(judged(copy, statement), kind)


def test_a_single_wrong_bit_is_seen(copy: Path) -> None:
    # Given vectors of which one has another last bit
    database = PlainDatabase(f"sqlite:///{copy / 'mill.sqlite3'}")
    blob = bytearray(database.value("SELECT vectors FROM results WHERE number = 1"))
    blob[40] ^= 1
    database.rows("UPDATE results SET vectors = ? WHERE number = 1", [bytes(blob)])
    database.rows("DELETE FROM commit_log WHERE id = (SELECT max(id) FROM commit_log)")
    database.close()
    # Then that is what the report says, and nothing else
    report = judged(copy)
    assert len(report.differing) == 1 and "1 wrong vectors" in report.differing[0]
    assert not (report.lost or report.twice or report.stuck or report.leaked)


def test_a_sealed_job_that_nobody_wrote_down_is_judged_as_well(copy: Path) -> None:
    # Given a ledger that ends before the submission returned
    ledger = copy / "ledger"
    (line,) = [json.loads(line) for line in ledger.read_text().splitlines() if '"job": null' in line]
    ledger.write_text(json.dumps(line) + "\n")
    # Then the job is found by its texts, and its damage too
    assert judged(copy).is_clean
    assert judged(copy, "DELETE FROM results WHERE number = 1").lost
    # And texts of which nobody knows are no less wrong
    ledger.write_text("")
    assert judged(copy).differing


def test_an_unsealed_job_that_was_worked_on_is_seen(copy: Path) -> None:
    (copy / "ledger").write_text("")
    assert judged(copy, "UPDATE jobs SET state = 'accepting'").differing


def test_texts_in_redis_or_in_a_log_are_seen(copy: Path) -> None:
    assert len(judged(copy, redis=[b"x" + CANARY.encode()]).leaked) == 1
    (copy / "worker.log").write_text(f"could not embed {text_of('job', 0)}\n")
    assert len(judged(copy).leaked) == 1
    # Nor does a message hide one: what it carries, as base64, is looked at too
    assert carried(json.dumps({"body": base64.b64encode(CANARY.encode()).decode()}).encode()) == CANARY.encode()
    assert carried(b"no message") == carried(b'{"body": 1}') == carried(b'["body"]') == b""


def test_the_encoder_and_the_oracle_agree_on_vectors_each_by_its_own_reckoning() -> None:
    texts = [text_of("job", i) for i in range(100)]
    vectors = vectors_of(texts)
    wanted = np.array([expected_vector("job", i) for i in range(100)])
    assert np.array_equal(vectors, wanted.astype(np.float32))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1) and len(np.unique(vectors, axis=0)) == 100
