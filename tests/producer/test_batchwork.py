"""The work at batches, step by step, and cut off: at every step in the long form, at every ninth in the short one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from producer.api.openai.batchwork import BatchWork
from producer.api.settings import ApiSettings
from producer.client import Client
from producer.records import records_of
from storage.batchrecords import Batch
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.contract.models import ModelCard
from storage.filetables import BatchLinesRow, BatchRow, FileRow
from storage.quotas import Quota
from storage.stores import Stores
from storage.tables import JobRow
from tests.faults.forms import FULL
from tests.storage.builders import result

MODEL, OTHER = "mill/grain-small", "mill/flour-large"
CARDS = [ModelCard(name, "5f1c0de", "float32", 4, 128, 2, "mean", True) for name in (MODEL, OTHER)]
LINES = [("a", MODEL, ["wheat", "rye"]), ("b", OTHER, ["oats"]), ("c", MODEL, ["spelt", " "])]

#: A process is killed at each so-manyth place among its dealings with storage.
STRIDE = 1 if FULL else 9


class Died(BaseException):
    """What a kill is to those who watch: nothing is done any more."""


class Mortal:
    """A process that dies before or after one of its dealings with storage, and then does nothing any more."""

    def __init__(self, stores: Stores, dealings: int) -> None:
        self.left = dealings
        names = ("batches", "files", "jobs", "purges", "statuses", "results")
        self.stores = replace(stores, **{name: _Watched(getattr(stores, name), self) for name in names})

    def deal(self) -> None:
        self.left -= 1
        if self.left <= 0:
            raise Died


class _Watched:
    def __init__(self, store: Any, mortal: Mortal) -> None:
        self._store = store
        self._mortal = mortal

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def dealt(*args: Any, **given: Any) -> Any:
            self._mortal.deal()
            answer = method(*args, **given)
            self._mortal.deal()
            return answer

        return dealt


class Counted:
    """A store; calls of one of its methods are counted."""

    def __init__(self, store: Any, name: str) -> None:
        self._store, self._name = store, name
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        self.count += name == self._name
        return getattr(self._store, name)


class Claims:
    """The store of batches; which are claimed is noted."""

    def __init__(self, store: Any, claimed: list[str]) -> None:
        self._store, self._claimed = store, claimed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def claim(self, batch_id: str, owner: str) -> Any:
        self._claimed.append(batch_id)
        return self._store.claim(batch_id, owner)


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> ApiSettings:
    url = f"unix://{tmp_path / 'nobody.sock'}"
    return ApiSettings.load(data_dir=tmp_path, model=MODEL, redis_url=url, database_url=database_url)


@pytest.fixture
def client(settings: ApiSettings) -> Iterator[Client]:
    with Client(settings=settings) as client:
        for card in CARDS:
            client.stores.workers.register(card, new_id(), "millhouse", 4711, "cpu")
        yield client


def started(stores: Stores, owner: str = "") -> Batch:
    writer = stores.files.open("batch.jsonl", "batch", owner)
    for custom_id, model, texts in LINES:
        body = {"model": model, "input": texts}
        line = {"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": body}
        writer.write(json.dumps(line).encode() + b"\n")
    writer.close()
    return stores.batches.create(writer.id, "/v1/embeddings", "24h", 86_400, key_id=owner)


def embed(stores: Stores, models: Sequence[str] = (MODEL, OTHER)) -> None:
    """Do what workers do with everything that waits for some models."""
    with stores.database.read() as connection:
        waiting = connection.execute(
            select(JobRow.id, JobRow.model, JobRow.total).where(JobRow.state == "queued")
        ).all()
    for job in waiting:
        if job.model not in models:
            continue
        card = next(card for card in CARDS if card.name == job.model)
        (held,) = stores.leases.claim(Pointer(job.id, 0), new_id(), card.id, 0)
        stores.leases.commit([(held, result(job.total, failed=[3] if job.model == MODEL else []))])


def live(client: Client, settings: ApiSettings, stores: Stores) -> None:
    """Do all that a batch needs from its beginning to its end, as one process."""
    client._stores = stores
    work = BatchWork(client, settings)
    work.look()
    embed(stores)
    work.look()


def content(stores: Stores, file_id: str | None) -> dict[str, Any]:
    assert file_id is not None
    lines = b"".join(stores.files.content(stores.files.get(file_id))).splitlines()
    return {line["custom_id"]: line for line in map(json.loads, lines)}


def check(stores: Stores, batch: Batch) -> None:
    """Check that a batch is at its one right end, and that nothing else is left of it."""
    done = stores.batches.get(batch.id)
    assert (done.state, done.total, done.completed, done.failed, done.tokens) == ("completed", 3, 2, 1, 21)
    output, failures = content(stores, done.output_file_id), content(stores, done.error_file_id)
    assert list(output) == ["a", "b"] and list(failures) == ["c"]
    assert [len(one["response"]["body"]["data"]) for one in output.values()] == [2, 1]
    assert output["a"]["response"]["body"]["data"][1]["embedding"] == [1.5, 1.5, 1.5, 1.5]
    assert failures["c"]["response"]["body"]["error"]["code"] == "encoder_failed"
    with stores.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(JobRow)).scalar_one() == 0
        seen = select(FileRow.id).where(FileRow.state == "ready", FileRow.purpose == "batch_output")
        assert set(connection.execute(seen).scalars()) == {done.output_file_id, done.error_file_id}
    assert stores.batches.groups(batch.id) == [] and list(stores.batches.unfinished()) == []


@pytest.mark.timeout(900 if FULL else 300)
def test_a_batch_is_done_once_wherever_the_process_that_works_at_it_is_killed(
    client: Client, settings: ApiSettings
) -> None:
    stores = client.stores
    dealings = killed = 0
    while killed == dealings:
        dealings += 1
        at = dealings * STRIDE
        batch = started(stores)
        # Given a process that dies before or after so many dealings with storage
        try:
            live(client, settings, Mortal(stores, at).stores)
        except Died:
            killed += 1
        # When its lease has run out, and another one goes on
        with stores.database.write() as connection:
            connection.execute(update(BatchRow).values(lease_expires=0))
        live(client, settings, stores)
        # Then the batch is done, and once
        check(stores, batch)
        for file in stores.files.page(10):
            stores.files.delete(file.id)
    assert killed * STRIDE > 45


def test_a_batch_of_more_texts_than_its_key_may_keep_fails_at_once_and_leaves_nothing(
    client: Client, settings: ApiSettings
) -> None:
    # Given a key that may keep four texts, and a batch of five in two jobs, the second of which goes too far
    stores = client.stores
    owner = stores.keys.create("small", quota=Quota(texts=4))[0].id
    batch = started(stores, owner)
    # When it is looked at
    BatchWork(client, settings).look()
    # Then it has failed, with the code that OpenAI has for it and the reason
    done = stores.batches.get(batch.id)
    assert done.state == "failed" and done.errors is not None
    (error,) = done.errors["data"]
    assert error["code"] == "token_limit_exceeded" and "may keep 4 texts" in error["message"]
    assert "Delete jobs" in error["message"]
    # And none of its jobs is left, so that the key may keep four again
    with stores.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(JobRow)).scalar_one() == 0
    assert client.submit_records(records_of(["a", "b", "c", "d"], None), with_ids=False, model=MODEL, key_id=owner)


def test_a_batch_waits_for_what_time_brings(client: Client, settings: ApiSettings) -> None:
    # Given a key for one open job, and a batch of two jobs
    stores = client.stores
    owner = stores.keys.create("one", quota=Quota(jobs=1))[0].id
    batch = started(stores, owner)
    # Then the second is submitted when the first has ended; each look is a process of its own, which remembers nothing
    for _ in range(4):
        BatchWork(client, settings).look()
        embed(stores)
    BatchWork(client, settings).look()
    check(stores, batch)


def test_a_batch_that_was_refused_is_not_read_again_at_once(client: Client, settings: ApiSettings) -> None:
    # Given a batch of two jobs, the second of which was refused, as its key may have one open job
    stores = client.stores
    batch = started(stores, stores.keys.create("one", quota=Quota(jobs=1))[0].id)
    read = Counted(stores.files, "content")
    client._stores = replace(stores, files=read)  # type: ignore[arg-type]
    work = BatchWork(client, settings)
    work.look()
    refused = read.count
    assert refused > 1 and stores.batches.get(batch.id).state == "validating"
    # When it is looked for again at once, then its file is left alone, though there would be room by now
    embed(stores)
    work.look()
    assert read.count == refused
    # And when it is cancelled meanwhile, then it ends at once, and with it the job that it had by then
    stores.batches.cancel(batch.id)
    for _ in range(2):
        work.look()
    assert stores.batches.get(batch.id).state == "cancelled"
    with stores.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(JobRow)).scalar_one() == 0


def test_no_file_is_read_for_a_key_that_may_have_no_further_job_now(client: Client, settings: ApiSettings) -> None:
    # Given a key whose one open job is there, and a batch of it
    stores = client.stores
    owner = stores.keys.create("one", quota=Quota(jobs=1))[0].id
    client.submit_records(records_of(["rye"], None), with_ids=False, model=MODEL, key_id=owner)
    batch = started(stores, owner)
    # When it is looked at, then it waits unread
    read = Counted(stores.files, "content")
    client._stores = replace(stores, files=read)  # type: ignore[arg-type]
    assert BatchWork(client, settings).look()
    assert read.count == 0 and stores.batches.get(batch.id).state == "validating"


def test_keys_have_their_batches_begun_in_turn(client: Client, settings: ApiSettings) -> None:
    # Given two batches of one key, and a younger one of another
    stores = client.stores
    batches = [started(stores, owner) for owner in ("anna", "anna", "ben")]
    # When they are worked at, then each key has its turn before one has its second
    begun: list[str] = []
    client._stores = replace(stores, batches=Claims(stores.batches, begun))  # type: ignore[arg-type]
    BatchWork(client, settings).look()
    assert begun == [batches[number].id for number in (0, 2, 1)]


def test_a_batch_that_is_cancelled_before_it_began_makes_no_job(client: Client, settings: ApiSettings) -> None:
    stores = client.stores
    batch = stores.batches.cancel(started(stores).id)
    BatchWork(client, settings).look()
    with stores.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(JobRow)).scalar_one() == 0
    BatchWork(client, settings).look()
    done = stores.batches.get(batch.id)
    assert (done.state, done.total, done.failed, done.output_file_id) == ("cancelled", 3, 3, None)
    assert {line["error"]["code"] for line in content(stores, done.error_file_id).values()} == {"batch_cancelled"}


def test_what_was_done_before_a_batch_was_cancelled_stays(client: Client, settings: ApiSettings) -> None:
    # Given a batch one of whose jobs is done
    stores, work = client.stores, BatchWork(client, settings)
    batch = started(stores)
    work.look()
    embed(stores, [OTHER])
    # When it is cancelled
    stores.batches.cancel(batch.id)
    work.look()
    # Then the line of that job has its vector, and the others say why not; one has a text that was refused before
    done = stores.batches.get(batch.id)
    assert (done.state, done.completed, done.failed) == ("cancelled", 1, 2)
    assert list(content(stores, done.output_file_id)) == ["b"]
    failures = content(stores, done.error_file_id)
    assert failures["a"]["error"]["code"] == "batch_cancelled" and failures["a"]["response"] is None
    assert failures["c"]["response"]["body"]["error"]["code"] == "invalid_item"


def test_the_jobs_of_a_batch_are_not_purged_before_its_output_is_written(client: Client, settings: ApiSettings) -> None:
    stores, work = client.stores, BatchWork(client, settings)
    batch = started(stores)
    work.look()
    embed(stores)
    assert stores.purges.mark(86_400_000) == 0
    work.look()
    check(stores, batch)


def test_a_batch_that_fails_for_an_unforeseen_reason_fails_in_the_end_and_keeps_no_other_waiting(
    client: Client, settings: ApiSettings
) -> None:
    # Given a batch whose lines cannot be read any more, and another one
    stores, work = client.stores, BatchWork(client, settings)
    broken = started(stores)
    work.look()
    embed(stores)
    with stores.database.write() as connection:
        connection.execute(update(BatchLinesRow).values(data=b"chaff"))
    sound = started(stores)
    # When there were enough tries
    for _ in range(5):
        work.look()
        embed(stores)
    work.look()
    # Then one has failed and the other has not
    assert stores.batches.get(broken.id).state == "failed"
    assert stores.batches.get(sound.id).state == "completed"
