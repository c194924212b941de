"""Vectors and errors as they are read back, over both databases."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event

from storage import results, texts
from storage.contract.errors import WrongState
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.database import Database
from storage.outcomes import ItemError, Page
from storage.results import ChunkResult
from storage.stores import Stores
from tests.storage.builders import CARD, chunk, claim, finish, result, serve, set_chunk, submit

REFUSED = ItemError("invalid_item", "Refused at the door: empty or blank.")


def with_ids(number: int, first: int, *ids: str) -> Any:
    return chunk(number, ["wheat"] * len(ids), first=first, ids=list(ids))


def test_pages_come_in_submission_order_whatever_the_order_of_the_work(stores: Stores) -> None:
    worker = serve(stores)
    job_id = submit(stores, 4)
    for number in (2, 0, 3, 1):
        (held,) = claim(stores, job_id, number, worker)
        stores.leases.commit([(held, result(value=float(number)))])
    pages = list(stores.results.pages(job_id))
    assert [(page.first, page.size) for page in pages] == [(0, 2), (2, 2), (4, 2), (6, 2)]
    assert [page.matrix()[0, 0] for page in pages] == [0.0, 1.0, 2.0, 3.0]  # type: ignore[index]
    assert [page.first for page in stores.results.pages(job_id, first=4)] == [4, 6]


def test_every_chunk_is_read_once_however_many_there_are(stores: Stores) -> None:
    serve(stores)
    job_id = submit(stores, [chunk(number, ("rye",)) for number in range(600)])
    assert [page.first for page in stores.results.pages(job_id)] == list(range(600))


def test_no_read_holds_many_more_vectors_than_it_may_however_unlike_the_chunks_are(stores: Stores) -> None:
    # Given a job of a few long texts, and of many short ones behind them: the first chunks are small, the others large
    card = replace(CARD, width=512)
    stores.workers.register(card, worker := new_id(), "millhouse", 4711, "cpu")
    sizes = [1, 1, *[1024] * 12]
    firsts = [sum(sizes[:number]) for number in range(len(sizes))]
    job_id = submit(stores, [chunk(i, ["rye"] * sizes[i], firsts[i]) for i in range(len(sizes))], card)
    for number, size in enumerate(sizes):
        (held,) = stores.leases.claim(Pointer(job_id, number), worker, card.id, 0)
        full = np.full((size, card.width), 0.5, dtype=np.float32)
        ones = np.ones(size, dtype=np.int32)
        stores.leases.commit([(held, ChunkResult(full, "float32", ones, ones, {}))])
    # When it is read, and each read is watched
    fetched: list[int] = []
    read = stores.results._rows

    def watched(*given: Any) -> Sequence[Any]:
        rows = read(*given)
        fetched.append(sum(len(row.vectors) for row in rows))
        return rows

    stores.results._rows = watched  # type: ignore[method-assign]
    assert [page.first for page in stores.results.pages(job_id)] == firsts
    # Then none holds more than a page, and the chunk that fills it over the brim
    largest = 1024 * card.width * 4
    assert max(fetched) <= results._PAGE_BYTES + largest and sum(fetched) == sum(sizes) * card.width * 4


def test_vectors_are_read_back_bit_for_bit(stores: Stores) -> None:
    worker = serve(stores)
    job_id = submit(stores, [chunk(0, ("a", "b", "c"))])
    matrix = np.array([[1 / 3, -0.0, 1e-45, 3e38], [1.0, 2.0, 3.0, 4.0], [-1e-7, 0.1, 0.2, 0.3]], dtype=np.float32)
    count = np.array([3, 5, 7], dtype=np.int32)
    (held,) = claim(stores, job_id, 0, worker)
    stores.leases.commit([(held, ChunkResult(matrix, "float32", count, count + 1, {}))])
    (page,) = stores.results.pages(job_id)
    found = page.matrix()
    assert found is not None and found.tobytes() == matrix.tobytes() and found.dtype == np.dtype("<f4")
    assert (page.width, page.dtype, page.tokens.tolist()) == (4, "float32", [3, 5, 7])
    assert page.truncated.tolist() == [True, True, True]


def test_half_precision_vectors_take_half_the_bytes(stores: Stores) -> None:
    worker = serve(stores)
    job_id = submit(stores)
    (held,) = claim(stores, job_id, 0, worker)
    stores.leases.commit([(held, result(dtype="float16", value=0.1))])
    (page,) = stores.results.pages(job_id)
    found = page.matrix()
    assert page.vectors is not None and len(page.vectors) == 2 * CARD.width * 2
    assert found is not None and found.dtype == np.dtype("<f2") and found[0, 0] == np.float16(0.1)


def test_items_without_a_vector_read_as_nan_and_say_why(stores: Stores) -> None:
    # Given a chunk whose second item was refused at the door and whose fourth failed
    worker = serve(stores)
    job_id = submit(stores, [chunk(0, ("wheat", "", "rye", "oats"), invalid={1: REFUSED})])
    (held,) = claim(stores, job_id, 0, worker)
    failed = result(4, failed=[1, 3], cut=[2])
    failed.errors[1] = REFUSED
    stores.leases.commit([(held, failed)])
    # When it is read
    (page,) = stores.results.pages(job_id)
    outcomes = page.outcomes()
    # Then each item has its one outcome
    assert [outcome.status for outcome in outcomes] == ["succeeded", "failed", "succeeded", "failed"]
    assert [outcome.truncated for outcome in outcomes] == [False, False, True, False]
    assert outcomes[1].error == REFUSED and outcomes[1].vector is None
    assert outcomes[3].error == ItemError("encoder_failed", "No vector.")
    matrix = page.matrix()
    assert matrix is not None and np.isnan(matrix).all(axis=1).tolist() == [False, True, False, True]


def test_invalid_items_have_their_error_before_any_work_is_done(stores: Stores) -> None:
    serve(stores)
    job_id = submit(stores, [chunk(0, ("wheat", ""), invalid={1: REFUSED})])
    (page,) = stores.results.pages(job_id)
    assert page.matrix() is None and page.tokens.tolist() == [0, 0]
    assert [(outcome.status, outcome.error) for outcome in page.outcomes()] == [("pending", None), ("failed", REFUSED)]


def test_what_was_cancelled_reads_as_cancelled(stores: Stores) -> None:
    worker = serve(stores)
    job_id = submit(stores, 2)
    finish(stores, job_id, 1, worker)
    stores.jobs.cancel(job_id)
    statuses = [outcome.status for page in stores.results.pages(job_id) for outcome in page.outcomes()]
    assert statuses == ["succeeded", "succeeded", "cancelled", "cancelled"]


def test_items_being_retried_are_pending_and_their_neighbours_keep_their_vectors(stores: Stores) -> None:
    worker = serve(stores)
    job_id = submit(stores, [chunk(0, ("wheat", "", "rye"), invalid={1: REFUSED})])
    (held,) = claim(stores, job_id, 0, worker)
    stores.leases.commit([(held, result(3, failed=[1, 2]))])
    stores.jobs.retry_failed(job_id)
    (page,) = stores.results.pages(job_id)
    assert [outcome.status for outcome in page.outcomes()] == ["succeeded", "failed", "pending"]
    assert page.errors == {1: REFUSED}


def test_readers_of_a_running_job_stop_before_the_first_gap(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    job_id = submit(stores, 4)
    finish(stores, job_id, 1, worker)
    (held,) = claim(stores, job_id, 2, worker)
    stores.leases.commit([(held, result())])
    settled = [page.first // 2 for page in stores.results.pages(job_id, settled_only=True)]
    assert settled == [0]
    for state in ("leased", "dispatched", "pending"):
        set_chunk(database, job_id, 1, state=state)
        assert [page.first for page in stores.results.pages(job_id, settled_only=True)] == [0]
    stores.jobs.cancel(job_id)
    assert [page.first // 2 for page in stores.results.pages(job_id, settled_only=True)] == [0, 1, 2, 3]


def test_a_job_that_does_not_exist_has_no_pages(stores: Stores) -> None:
    assert list(stores.results.pages("0198c0de-0000-7000-8000-000000000000")) == []


def test_an_item_is_found_by_its_callers_id(stores: Stores) -> None:
    serve(stores)
    job_id = submit(stores, [with_ids(0, 0, "a", "b"), with_ids(1, 2, "蚂蚁", "d\0"), with_ids(2, 4, "e")])
    other = submit(stores, [with_ids(0, 0, "z")])
    assert stores.jobs.get(job_id).has_ids
    for custom_id, first in (("b", 0), ("蚂蚁", 2), ("d\0", 2), ("e", 4)):
        page = stores.results.find(job_id, custom_id)
        assert page is not None and page.first == first and page.ids is not None and custom_id in page.ids
    assert stores.results.find(job_id, "z") is None
    assert stores.results.find(other, "z") is not None
    assert stores.results.find(submit(stores), "a") is None


def test_an_item_is_looked_for_at_one_moment_whoever_deletes_its_job_meanwhile(
    stores: Stores, open_again: Callable[[], Stores]
) -> None:
    # Given an ended job that somebody else deletes once its ids have been looked through
    worker = serve(stores)
    job_id = submit(stores, [with_ids(0, 0, "a", "b")])
    finish(stores, job_id, 1, worker)
    others, deleted = open_again(), list[str]()

    def delete(*told: Any) -> None:
        if "id_hashes" in str(told[2]) and not deleted:
            deleted.append(job_id)
            others.purges.delete(job_id)

    event.listen(stores.database.engine, "after_cursor_execute", delete)
    # When an item is looked for, then it is found as it was when the look began, and not any more by the next
    page = stores.results.find(job_id, "b")
    assert page is not None and page.ids == ["a", "b"]
    assert stores.results.find(job_id, "b") is None


def test_an_id_whose_hash_collides_with_another_is_still_told_apart(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a hash that is the same for every id
    monkeypatch.setattr(texts, "hash_ids", lambda ids: np.full(len(ids), 42, dtype="<u8"))
    serve(stores)
    job_id = submit(stores, [with_ids(0, 0, "a"), with_ids(1, 1, "b"), with_ids(2, 2, "c")])
    # When ids are looked for, then only the id itself counts
    found = [stores.results.find(job_id, custom_id) for custom_id in ("c", "a", "missing")]
    assert [page.first if isinstance(page, Page) else None for page in found] == [2, 0, None]


NAN = np.full((1, 4), np.nan, dtype=np.float32)
GOOD = np.ones((1, 4), dtype=np.float32)
HALF = np.array([[1.0, np.nan, 1.0, 1.0]], dtype=np.float32)
HUGE = np.full((1, 4), 1e6, dtype=np.float32)
ERROR = {0: ItemError("encoder_failed", "No vector.")}


@pytest.mark.parametrize(
    ("matrix", "dtype", "errors"),
    [
        pytest.param(NAN, "float32", {}, id="neither"),
        pytest.param(GOOD, "float32", ERROR, id="both"),
        pytest.param(HALF, "float32", {}, id="a vector with one NaN"),
        pytest.param(HUGE, "float16", {}, id="a vector too large for half precision"),
        pytest.param(np.full((1, 4), np.inf, dtype=np.float32), "float32", {}, id="an infinite vector"),
    ],
)
def test_a_result_without_exactly_one_outcome_an_item_is_refused(
    matrix: Any, dtype: str, errors: dict[int, ItemError]
) -> None:
    one = np.ones(1, dtype=np.int32)
    with pytest.raises(ValueError, match="exactly one outcome"):
        ChunkResult(matrix, dtype, one, one, errors)


def test_a_result_whose_counts_are_of_another_length_is_refused() -> None:
    one, two = np.ones(1, dtype=np.int32), np.ones(2, dtype=np.int32)
    with pytest.raises(ValueError, match="exactly one outcome"):
        ChunkResult(GOOD, "float32", two, one, {})
    with pytest.raises(ValueError, match="exactly one outcome"):
        ChunkResult(GOOD, "float32", one, two, {})


def states(*counts: int, errors: Sequence[int] = (), **more: Any) -> ChunkResult:
    """Return the result of a call for states: so many tokens an item, all components of row r are r + 1."""
    tokens = np.array(counts, dtype=np.int32)
    rows = sum(count for place, count in enumerate(counts) if place not in errors)
    matrix = np.repeat(np.arange(1, rows + 1, dtype=np.float32)[:, None], 4, axis=1)
    failed = {place: ItemError("bad_vector", "No states.") for place in errors}
    return ChunkResult(
        **(
            {"matrix": matrix, "dtype": "float32", "errors": failed, "each_token": True}
            | more
            | {"tokens": tokens, "lengths": tokens}
        )
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_states_of_tokens_are_read_item_by_item_and_never_as_one_vector_each(stores: Stores, dtype: str) -> None:
    # Given a chunk of four items, one of which failed after its tokens were read
    worker = serve(stores)
    job_id = submit(stores, [chunk(0, ["a", "b", "c", "d"])])
    (held,) = claim(stores, job_id, 0, worker)
    stores.leases.commit([(held, states(2, 3, 1, 2, errors=[1], dtype=dtype))])
    # Then each has its own
    (page,) = stores.results.pages(job_id)
    assert [text[:, 0].tolist() for text in page.states()] == [[1, 2], [], [3], [4, 5]]
    assert {text.dtype.name for text in page.states()} == {dtype} and page.tokens.tolist() == [2, 3, 1, 2]
    assert [stores.statuses.get(job_id).succeeded, stores.statuses.get(job_id).failed] == [3, 1]
    # And whoever expects a vector an item is told
    with pytest.raises(WrongState, match="states of tokens"):
        page.outcomes()


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda: states(2, 0), id="an item without tokens and without an error"),
        pytest.param(lambda: states(2, 1, matrix=np.ones((2, 4), np.float32)), id="a row too few"),
        pytest.param(lambda: states(2, 1, matrix=np.ones((4, 4), np.float32)), id="a row too many"),
        pytest.param(lambda: states(1, matrix=HALF), id="a state with one NaN"),
        pytest.param(lambda: states(1, matrix=HUGE, dtype="float16"), id="a state too large for half precision"),
    ],
)
def test_states_without_exactly_one_outcome_an_item_are_refused(wrong: Callable[[], ChunkResult]) -> None:
    with pytest.raises(ValueError, match="exactly one outcome"):
        wrong()
