"""Finding the text that kills processes, over both databases."""

from __future__ import annotations

import numpy as np
from sqlalchemy import select, update

from storage.attempts import Claim
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.isolation import POISON_AFTER
from storage.outcomes import ItemError
from storage.results import ChunkResult
from storage.stores import Stores
from storage.tables import ChunkRow, InputRow
from tests.storage.builders import CARD, PLENTY, chunk, serve, submit

FRUITS = ("plum", "pear", "fig", "lime", "date")


def pending(stores: Stores, job_id: str) -> list[tuple[int, int, int]]:
    """Return number, first item and size of the pending chunks, in the order of their items."""
    wanted = select(ChunkRow.number, ChunkRow.first, ChunkRow.size)
    with stores.database.read() as connection:
        rows = connection.execute(
            wanted.where(ChunkRow.job_id == job_id, ChunkRow.state == "pending").order_by(ChunkRow.first)
        )
        return [(row.number, row.first, row.size) for row in rows]


def claimed(stores: Stores, job_id: str, number: int, worker: str) -> list[Claim]:
    return stores.leases.claim(Pointer(job_id, number), worker, CARD.id, PLENTY)


def killed(stores: Stores, job_id: str, number: int) -> Claim:
    """Claim a chunk with a process that then dies."""
    worker = new_id()
    (claim, *_) = claimed(stores, job_id, number, worker)
    assert stores.leases.release_worker(worker, died=True) >= 1
    return claim


def vectors_for(stores: Stores, claim: Claim) -> ChunkResult:
    """Return a result in which each text's vector begins with its length."""
    ((_, found),) = stores.leases.inputs([claim])
    lengths = np.array([len(text) for text in found.texts], dtype=np.int32)
    matrix = np.ones((len(lengths), 4), dtype=np.float32)
    matrix[:, 0] = lengths
    matrix[list(found.settled)] = np.nan
    return ChunkResult(matrix, "float32", lengths, lengths, dict(found.settled))


def test_a_first_death_proves_nothing_but_makes_a_suspect_that_runs_alone(stores: Stores) -> None:
    serve(stores)
    job_id = submit(stores, [chunk(0, FRUITS), chunk(1, ("kiwi",), first=5)])
    assert not killed(stores, job_id, 0).alone
    # Then both chunks, held by the same process, are suspects, and each is claimed without the other
    for number in (0, 1):
        (claim,) = claimed(stores, job_id, number, new_id())
        assert claim.alone


def test_a_death_alone_splits_the_chunk_into_halves_that_lose_nothing(stores: Stores) -> None:
    serve(stores)
    invalid = {3: ItemError("invalid_item", "blank")}
    job_id = submit(stores, [chunk(0, FRUITS, ids=list("abcde"), invalid=invalid)])
    killed(stores, job_id, 0)
    killed(stores, job_id, 0)
    # Then there are two halves, in the place of the whole
    halves = pending(stores, job_id)
    assert [(first, size) for _, first, size in halves] == [(0, 2), (2, 3)]
    status = stores.statuses.get(job_id)
    assert (status.total, status.pending, status.failed) == (5, 4, 1)
    # And when both are done, every item has its own outcome, in order
    for number, _, _ in halves:
        (claim,) = claimed(stores, job_id, number, new_id())
        assert claim.alone
        stores.leases.commit([(claim, vectors_for(stores, claim))])
    pages = list(stores.results.pages(job_id))
    outcomes = [outcome for page in pages for outcome in page.outcomes()]
    assert [outcome.id for outcome in outcomes] == list("abcde")
    lengths = [None if outcome.vector is None else outcome.vector[0] for outcome in outcomes]
    assert lengths == [4, 4, 3, None, 4] and outcomes[3].error == invalid[3]
    assert stores.statuses.get(job_id).state == "completed"
    found = stores.results.find(job_id, "e")
    assert found is not None and found.first == 2


def test_a_late_commit_of_the_split_chunk_changes_nothing(stores: Stores) -> None:
    serve(stores)
    job_id = submit(stores, [chunk(0, FRUITS)])
    killed(stores, job_id, 0)
    late = killed(stores, job_id, 0)
    wrong = np.full((5, 4), 7, dtype=np.float32)
    count = np.ones(5, dtype=np.int32)
    written, _ = stores.leases.commit([(late, ChunkResult(wrong, "float32", count, count, {}))])
    assert written == set() and stores.statuses.get(job_id).pending == 5


def test_one_text_is_given_up_only_after_it_killed_three_processes_alone(stores: Stores) -> None:
    serve(stores)
    job_id = submit(stores, [chunk(0, ("plum", "poison"))])
    killed(stores, job_id, 0)
    killed(stores, job_id, 0)
    (good, *_), (bad, first, size) = pending(stores, job_id)
    assert (first, size) == (1, 1)
    (claim,) = claimed(stores, job_id, good, new_id())
    stores.leases.commit([(claim, vectors_for(stores, claim))])
    # When the one text kills process after process
    alone = 0
    while stores.statuses.get(job_id).state == "running":
        assert killed(stores, job_id, bad).alone
        alone += 1
        assert alone <= POISON_AFTER
    # Then it is that item's error, and the job is done with all other vectors
    assert alone == 3
    status = stores.statuses.get(job_id)
    assert (status.state, status.succeeded, status.failed, status.pending) == ("completed", 1, 1, 0)
    (error,) = [page.errors[0] for page in stores.results.pages(job_id) if page.errors]
    assert error.code == "poison" and "poison" not in error.message.replace("processes", "")


def test_the_end_of_a_worker_that_did_not_die_charges_nothing(stores: Stores) -> None:
    serve(stores)
    job_id = submit(stores, [chunk(0, FRUITS)])
    for _ in range(6):
        worker = new_id()
        (claim,) = claimed(stores, job_id, 0, worker)
        assert not claim.alone
        stores.leases.release_worker(worker)
    assert pending(stores, job_id) == [(0, 0, 5)]


def test_splitting_a_chunk_on_its_way_round_again_keeps_its_vectors(stores: Stores) -> None:
    # Given a chunk with one failed item, sent round again
    serve(stores)
    job_id = submit(stores, [chunk(0, FRUITS)])
    (claim,) = claimed(stores, job_id, 0, new_id())
    matrix = np.arange(20, dtype=np.float32).reshape(5, 4) + 1
    matrix[4] = np.nan
    count = np.array([9, 9, 9, 9, 0], dtype=np.int32)
    errors = {4: ItemError("encoder_failed", "no")}
    stores.leases.commit([(claim, ChunkResult(matrix, "float32", count, count + 1, errors))])
    assert stores.jobs.retry_failed(job_id) == 1
    # When its process dies twice
    killed(stores, job_id, 0)
    killed(stores, job_id, 0)
    # Then the halves keep what was there, to the bit, and only the failed item is pending
    status = stores.statuses.get(job_id)
    assert (status.succeeded, status.pending, status.failed, status.truncated, status.tokens) == (4, 1, 0, 4, 36)
    pages = list(stores.results.pages(job_id))
    kept = np.concatenate([page.matrix() for page in pages if page.matrix() is not None])  # type: ignore[misc]
    assert kept.tobytes() == matrix.tobytes()


def test_a_chunk_that_cannot_be_read_does_not_keep_the_others_of_a_dead_process(stores: Stores) -> None:
    # Given two suspects, held by one process, of which one cannot be decoded
    serve(stores)
    job_id = submit(stores, [chunk(0, FRUITS), chunk(1, FRUITS, first=5)])
    killed(stores, job_id, 0)
    with stores.database.write() as connection:
        spoiled = update(InputRow).where(InputRow.job_id == job_id, InputRow.number == 0)
        connection.execute(spoiled.values(texts=b"nonsense"))
    worker = new_id()
    for number in (0, 1):
        claimed(stores, job_id, number, worker)
    # When that process dies too
    assert stores.leases.release_worker(worker, died=True) == 2
    # Then the other one is split, and the one that cannot be read waits to be given up
    assert pending(stores, job_id) == [(0, 0, 5), (2, 5, 2), (3, 7, 3)]
