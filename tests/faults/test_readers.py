"""A job deleted while it is read: the reader gets all of it or an error, never a part that looks whole."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from producer.exports import ExportHeader, write
from producer.job import Job
from storage.contract.errors import UnknownJob
from storage.contract.keeping import Keeping
from storage.stores import Stores
from tests.faults.forms import FULL, scenario
from tests.faults.rivals import client_of
from tests.storage.builders import CARD, MODEL, PLENTY, claim, result, serve, submit

CHUNKS = 150

ROUNDS = 40 if FULL else 2


def done_job(stores: Stores, worker: str) -> str:
    """Return a job of many chunks that is done; item 2n+i has a vector full of n+i."""
    job_id = submit(stores, CHUNKS, keeping=Keeping(0))
    held = claim(stores, job_id, 0, worker, PLENTY)
    assert len(held) == CHUNKS
    stores.leases.commit([(one, result(value=float(one.number + 1))) for one in held])
    return job_id


def read_vectors(job: Job) -> int:
    matrix = job.vectors()
    assert not np.isnan(matrix).any()
    return len(matrix)


def read_results(job: Job) -> int:
    outcomes = list(job.results())
    assert [outcome.position for outcome in outcomes] == list(range(len(outcomes)))
    return len(outcomes)


def read_export(job: Job) -> int:
    header = ExportHeader(job.id, MODEL, 2 * CHUNKS, CARD.width, "float32", False)
    return write(header, job.pages(), io.BytesIO(), "jsonl")


@scenario("F49")
@pytest.mark.timeout(600)
def test_whoever_reads_a_job_that_is_being_deleted_gets_all_of_it_or_an_error(
    stores: Stores, database_url: str, tmp_path: Path
) -> None:
    worker = serve(stores)
    client = client_of(database_url, str(tmp_path), MODEL)
    whole = refused = 0
    for number in range(ROUNDS):
        # Given readers in the midst of a job
        job = client.job(done_job(stores, worker))
        readers = [Reader(job, read) for read in (read_vectors, read_results, read_export)]
        for reader in readers:
            assert reader.began.wait(60)
        # When it is deleted, or has been kept for long enough
        if number % 2:
            job.delete()
        else:
            assert stores.purges.mark(abandoned_after=1_000_000) == 1
            stores.purges.purge(job.id)
        # Then each has all of it, or was told
        for reader in readers:
            reader.thread.join()
            assert all(isinstance(told, UnknownJob) or told == 2 * CHUNKS for told in reader.told), reader.told
            assert isinstance(reader.told[-1], UnknownJob)
            whole += len(reader.told) - 1
            refused += 1
    assert whole and refused == 3 * ROUNDS
    client.close()


class Reader:
    """Reads a job again and again in a thread, until it is told that there is none."""

    def __init__(self, job: Job, read: Callable[[Job], int]) -> None:
        self.told: list[int | BaseException] = []
        self.began = threading.Event()
        self._job, self._read = job, read
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while not self.told or isinstance(self.told[-1], int):
            try:
                self.told.append(self._read(self._job))
            except BaseException as error:
                self.told.append(error)
            self.began.set()
