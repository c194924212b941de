"""Submit, poll, fetch: what the README promises, by commands like those it shows."""

from __future__ import annotations

import gzip
import json
import os
import pty
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embedmill import Client
from tests.acceptance.shell import ROOT, Shell

TEXTS = ["The mill grinds slowly.", "The mill is slow at grinding.", "今天的面包已经卖完了。"]

#: Other programs rely on these names.
FIELDS = """
id state model total succeeded failed cancelled pending truncated tokens tokens_per_second eta_seconds
created_at started_at finished_at error waiting_for keep_days keep_texts_days kept_until texts_kept_until
name labels
"""
STATUS_FIELDS = FIELDS.split()


def test_submit_prints_the_id_alone_and_the_job_is_polled_and_fetched_by_it(shell: Shell) -> None:
    # Given a file of texts, when it is submitted and watched
    shell.write("texts.txt", "\n".join(TEXTS))
    submitted = shell("submit", "texts.txt")
    watched = shell("status", submitted.job_id, "--watch", "--json")
    # Then stdout holds the id alone, and every line of the watch is a whole status, the last one of the end
    assert (submitted.code, submitted.err) == (0, "")
    lines = [json.loads(line) for line in watched.out.splitlines()]
    assert all(list(line) == STATUS_FIELDS for line in lines)
    last = lines[-1]
    assert (last["state"], last["total"], last["succeeded"], last["pending"]) == ("completed", 3, 3, 0)
    assert last["id"] == submitted.job_id and last["tokens"] > 3 and last["error"] is None
    # And the vectors are there, told apart by their meaning
    waited, fetched = shell.together([("wait", submitted.job_id), ("results", submitted.job_id, "-o", "v.npy")])
    assert waited.code == 0 and "completed 3 of 3" in waited.err and waited.out == ""
    assert fetched.code == 0 and "3 items in v.npy" in fetched.err and fetched.out == ""
    vectors = np.load(shell.cwd / "v.npy")
    assert (vectors.dtype, vectors.shape) == (np.float32, (3, 384))
    alike = vectors @ vectors.T
    assert alike[0, 1] > 0.8 > alike[0, 2]


def test_submit_waits_when_told_to_and_a_person_reads_the_status(shell: Shell) -> None:
    # Given one text from standard input, when submitted with --wait and urgently
    submitted = shell("submit", "-", "--wait", "--priority", "urgent", stdin=b"A single loaf.\n")
    # Then the end is told on stderr, in quiet lines, and only the id on stdout
    assert submitted.code == 0 and "completed 1 of 1" in submitted.err
    assert shell.query("SELECT priority FROM jobs WHERE id = ?", submitted.job_id) == [(1,)]
    # And tables for people show ids whole, however narrow the window is said to be
    narrow = Shell(shell.data_dir, shell.cwd, {"COLUMNS": "30"})
    shown, listed = narrow.together([("status", submitted.job_id), ("jobs", "--limit", 3)])
    assert (shown.code, listed.code) == (0, 0)
    for table in (shown.out, listed.out):
        assert submitted.job_id in table and "completed" in table
        assert "sentence-transformers/all-MiniLM-L6-v2" in table


def test_a_terminal_sees_a_bar_and_the_whole_id(shell: Shell) -> None:
    # Given a job that has ended, when waited for and listed on a terminal of 70 columns
    with Client(data_dir=shell.data_dir) as client:
        job_id = client.submit(["bread"]).id
    waited, listed = (_typed_on_terminal(shell, *words) for words in (("wait", job_id), ("jobs", "--limit", "1")))
    # Then there is a bar at its end, and an id that can be copied
    assert "100%" in waited and "━" in waited
    assert job_id in listed


def test_jobs_are_listed_newest_first_a_page_at_a_time(shell: Shell) -> None:
    # Given three jobs
    with Client(data_dir=shell.data_dir) as client:
        ids = [client.submit(["one of three"]).id for _ in range(3)]
    # When listed two and then one at a time
    first, second = shell.together(
        [("jobs", "--json", "--limit", 2), ("jobs", "--json", "--limit", 1, "--before", ids[1])]
    )
    # Then each line is a whole status, the newest first
    lines = [json.loads(line) for line in first.out.splitlines()]
    assert [line["id"] for line in lines] == [ids[2], ids[1]]
    assert all(list(line) == STATUS_FIELDS for line in lines)
    assert [json.loads(line)["id"] for line in second.out.splitlines()] == [ids[0]]


def test_embed_reads_and_writes_every_format(shell: Shell) -> None:
    # Given the same texts in every input format
    shell.write("in.csv", "name,words\n" + "".join(f"n{i},{text}\n" for i, text in enumerate(TEXTS)))
    tsv = "text\n" + "".join(f"{text}\n" for text in TEXTS)
    shell.write("in.tsv.gz", gzip.compress(tsv.encode()))
    shell.write("in.jsonl", [{"id": i, "text": text} for i, text in enumerate(TEXTS)])
    pq.write_table(pa.table({"text": TEXTS}), shell.cwd / "in.parquet")
    # When each is embedded into another output format
    ran = shell.together(
        [
            ("embed", "in.csv", "--text-field", "words", "--id-field", "name", "-o", "a.npz"),
            ("embed", "in.tsv.gz", "-o", "b.jsonl"),
            ("embed", "in.jsonl", "--id-field", "id", "-o", "c.parquet"),
            ("embed", "in.parquet", "-o", "d.arrow"),
        ]
    )
    assert [one.code for one in ran] == [0] * 4, ran
    # Then all of them hold the same vectors
    a = np.load(shell.cwd / "a.npz")
    found = [a["vectors"], _jsonl_vectors(shell.cwd / "b.jsonl"), *_arrow_vectors(shell)]
    for vectors in found[1:]:
        np.testing.assert_allclose(vectors, found[0], atol=1e-6)
    assert list(a["ids"]) == ["n0", "n1", "n2"]


def test_embed_streams_from_standard_input_to_standard_output(shell: Shell) -> None:
    # Given texts on standard input, when embedded to standard output
    ran = shell("embed", "-", "-o", "-", "--output-format", "jsonl", stdin="\n".join(TEXTS).encode())
    # Then stdout holds nothing but data, and the job's id is told on stderr
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert ran.code == 0 and ran.err.startswith("job ")
    assert [line["position"] for line in lines] == [0, 1, 2]
    assert {len(line["vector"]) for line in lines} == {384}


def test_the_python_quick_start_runs_as_it_stands(shell: Shell) -> None:
    # Given the running stack, when the example is run
    ran = shell.program(sys.executable, ROOT / "examples" / "quickstart.py")
    # Then it prints three vectors and how alike they are
    assert ran.code == 0, ran.err
    assert "vectors (3, 384) float32" in ran.out and "job " in ran.out


def test_the_python_client_gives_the_same_vectors_as_the_shell(shell: Shell) -> None:
    # Given a job of the shell
    job_id = shell("submit", "-", "--wait", stdin="\n".join(TEXTS).encode()).job_id
    with Client(data_dir=shell.data_dir) as client:
        # When the same texts are submitted in Python, from a generator and with ids
        job = client.submit((text for text in TEXTS), ids=["a", "b", "c"])
        outcomes = list(job.results())
        theirs = client.job(job_id).vectors()
        # Then results come in order while the job runs, and both see the same
        assert [(o.position, o.id, o.status) for o in outcomes] == [(i, "abc"[i], "succeeded") for i in range(3)]
        assert job.wait(60).state == "completed" and job.errors() == []
        np.testing.assert_allclose(job.vectors(), theirs, atol=1e-6)
        np.testing.assert_array_equal([o.vector for o in outcomes], job.vectors())


def _jsonl_vectors(path: Path) -> NDArray[np.float32]:
    return np.array([json.loads(line)["vector"] for line in path.read_text().splitlines()], dtype=np.float32)


def _arrow_vectors(shell: Shell) -> list[Any]:
    tables = (pq.read_table(shell.cwd / "c.parquet"), feather.read_table(shell.cwd / "d.arrow"))
    return [np.array(table["vector"].to_pylist(), dtype=np.float32) for table in tables]


def _typed_on_terminal(shell: Shell, *words: str) -> str:
    """Return what a terminal of 70 columns shows of a command."""
    ours, theirs = pty.openpty()
    terminal = Shell(shell.data_dir, shell.cwd, {"TERM": "xterm", "COLUMNS": "70"})
    process = terminal.start(*words, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # the other end is closed: the command has ended
        while data := os.read(ours, 65536):
            shown += data
    os.close(ours)
    assert process.wait(60) == 0, shown
    return shown.decode()
