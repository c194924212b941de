"""Cancel, retry, delete, and the same submission twice."""

from __future__ import annotations

import json

import numpy as np
import pytest

from embedmill import Client
from storage.contract.errors import IdempotencyConflict
from tests.acceptance.shell import Shell


def test_a_waiting_job_is_cancelled_and_only_then_deleted(alone: Shell) -> None:
    # Given a job that nobody works on
    with Client(data_dir=alone.data_dir) as client:
        job_id = client.submit(["one text", "another"]).id
    # When deleted at once, then that is refused, with what to do first
    refused = alone("delete", job_id)
    assert refused.code == 2 and f"embedmill cancel {job_id}" in refused.err
    # When cancelled, then every item is, and a second time changes nothing
    assert alone("cancel", job_id).code == 0
    failed = ("results", job_id, "--failed", "-o", "-", "--output-format", "jsonl")
    again, waited, written = alone.together([("cancel", job_id), ("wait", job_id), failed])
    assert again.code == 0 and "It was cancelled before" in again.err
    assert waited.code == 1 and "cancelled 0 of 2" in waited.err
    assert [json.loads(line)["status"] for line in written.out.splitlines()] == ["cancelled", "cancelled"]
    # When deleted, then no row of it is left
    assert alone("delete", job_id).code == 0 and alone.rows() == (0, 0, 0)


def test_retry_tries_failed_items_again_and_keeps_every_vector(shell: Shell) -> None:
    # Given a completed job in which two texts were too long
    texts = ["short", "a text of far too many words for it", "also short", "and one more with too many words in it"]
    shell.write("in.txt", "\n".join(texts))
    submitted = shell("submit", "in.txt", "--max-length", 6, "--on-long", "error", "--wait")
    job_id = submitted.job_id
    assert submitted.code == 1 and "2 items failed" in submitted.err
    with Client(data_dir=shell.data_dir) as client:
        before = client.job(job_id).vectors()
        assert np.isnan(before).all(axis=1).tolist() == [False, True, False, True]
        # When retried
        retried = shell("retry", job_id)
        assert (retried.code, retried.out) == (0, "") and "Trying 2 items again" in retried.err
        # Then it is one round further, ends as before, and no vector has changed by a bit
        assert shell("wait", job_id).code == 1
        assert shell.query("SELECT generation FROM jobs WHERE id = ?", job_id) == [(1,)]
        np.testing.assert_array_equal(client.job(job_id).vectors(), before)
        assert [error.position for error in client.job(job_id).errors()] == [1, 3]
        assert {error.error.code for error in client.job(job_id).errors() if error.error} == {"too_long"}


def test_an_idempotency_key_gives_the_same_job_or_refuses_another(alone: Shell) -> None:
    # Given a job submitted with a key
    alone.write("in.txt", "one text\nanother\n")
    alone.write("other.txt", "one text\nyet another\n")
    command = ("submit", "in.txt", "--idempotency-key", "monday")
    first = alone(*command)
    rows = alone.rows()
    # When submitted again, and with other texts, and with other options
    same, refused = alone.together([command, ("submit", "other.txt", *command[2:])])
    with Client(data_dir=alone.data_dir) as client, pytest.raises(IdempotencyConflict):
        client.submit(["one text", "another"], idempotency_key="monday", pooling="cls")
    # Then the same payload is the same job, and anything else is refused
    assert same.code == 0 and same.job_id == first.job_id
    assert (refused.code, refused.out) == (2, "") and "idempotency key was used before" in refused.err
    assert alone.rows() == rows == (1, 1, 1)


def test_results_of_an_unfinished_job_are_not_written(alone: Shell) -> None:
    # Given a job that waits, and a wait that is not patient
    with Client(data_dir=alone.data_dir) as client:
        job_id = client.submit(["a text"]).id
    # When its results are asked for, or it is waited for a moment, or it is retried
    results, waited, endless, retried = alone.together(
        [
            ("results", job_id, "-o", "out.npy"),
            ("wait", job_id, "--timeout", 0.1),
            ("wait", job_id, "--timeout", "nan"),
            ("retry", job_id),
        ]
    )
    # Then nothing is written, and each says what to do instead
    assert results.code == 2 and f"embedmill wait {job_id}" in results.err
    assert not (alone.cwd / "out.npy").exists()
    assert waited.code == 1 and "1 of 1 items pending" in waited.err and f"embedmill wait {job_id}" in waited.err
    assert endless.code == 2 and "timeout must be a number of seconds" in endless.err
    assert retried.code == 2 and "Only a completed job" in retried.err
