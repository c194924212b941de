"""One message's work, over both databases, with an engine that can be told to misbehave."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest
from sqlalchemy import update

from storage.chunks import NewChunk
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.contract.models import Priority
from storage.contract.options import JobOptions
from storage.contract.states import JobState
from storage.newjobs import NewJob
from storage.outcomes import ItemError
from storage.stores import Stores
from storage.tables import ChunkRow, InputRow
from tests.worker.engines import CARD, Trouble, vector_of
from tests.worker.mill import Mill


@pytest.fixture
def mill(stores: Stores) -> Mill:
    return Mill(stores)


def test_a_chunk_is_embedded_and_its_job_finished(mill: Mill) -> None:
    # Given a job of one chunk
    job_id = mill.submit(["plum", "pear"])
    # When its message is worked on
    mill.run(job_id)
    # Then both vectors are kept in order, the end is told, and the next chunks are sent
    assert np.array_equal(mill.matrix(job_id), [vector_of("plum"), vector_of("pear")])
    assert mill.stores.statuses.get(job_id).state == JobState.COMPLETED
    assert mill.finished == [job_id] and mill.sent == 1


def test_a_doubled_message_does_nothing(mill: Mill) -> None:
    job_id = mill.submit(["plum"])
    mill.run(job_id)
    mill.run(job_id)
    assert len(mill.engine.calls) == 1 and mill.sent == 1


def test_a_message_for_no_job_does_nothing(mill: Mill) -> None:
    mill.run(new_id())
    assert mill.engine.calls == [] and mill.sent == 0


def measure_pace(mill: Mill) -> None:
    """Let a worker measure its pace, which is then that of a quick machine."""
    mill.run(mill.submit(["warm up " * 400]))
    assert mill.embedding._pace._rate > 0
    mill.embedding._pace._rate = 1e6


def test_once_its_pace_is_known_a_worker_takes_further_chunks_of_other_jobs_in_one_call(mill: Mill) -> None:
    # Given a worker that has measured its pace, and three jobs of one text
    measure_pace(mill)
    jobs = [mill.submit([name]) for name in ("plum", "pear", "fig")]
    # When the message of the first is worked on
    mill.run(jobs[0])
    # Then all three were embedded in one call
    assert mill.engine.calls[-1] == ["plum", "pear", "fig"]
    assert sorted(mill.finished[1:]) == sorted(jobs)


def test_invalid_items_keep_their_error_and_are_not_embedded(mill: Mill) -> None:
    invalid = {1: ItemError("invalid_item", "Refused at the door: the text is blank.")}
    job_id = mill.submit(["plum", " ", "fig"], invalid=invalid)
    mill.run(job_id)
    assert mill.engine.calls == [["plum", "fig"]]
    page = next(iter(mill.stores.results.pages(job_id)))
    assert [outcome.status for outcome in page.outcomes()] == ["succeeded", "failed", "succeeded"]
    assert page.errors[1].code == "invalid_item"


def test_a_chunk_of_invalid_items_alone_is_finished_without_vectors(mill: Mill) -> None:
    invalid = {0: ItemError("invalid_item", "Refused at the door: the text is blank.")}
    job_id = mill.submit([" "], invalid=invalid)
    mill.run(job_id)
    status = mill.stores.statuses.get(job_id)
    assert (status.state, status.succeeded, status.failed, status.pending) == ("completed", 0, 1, 0)


def test_options_that_do_not_fit_the_model_fail_the_job_and_no_text(mill: Mill) -> None:
    # Given a job that was accepted before anybody knew the model's width
    job_id = mill.submit(["plum"], ["pear"], dimensions=4096)
    # When its first chunk is worked on
    mill.run(job_id)
    # Then the job says why, and nothing was embedded
    status = mill.stores.statuses.get(job_id)
    assert status.state == JobState.FAILED and "dimensions is 4096" in status.error["message"]
    assert (status.cancelled, status.pending) == (2, 0)
    assert mill.finished == [job_id] and mill.engine.calls == []


def test_a_stopping_engine_gives_the_chunk_back_at_once(mill: Mill) -> None:
    job_id = mill.submit(["plum"])
    mill.engine.trouble = Trouble("engine_stopped")
    mill.run(job_id)
    # Then another worker may have it now
    assert mill.stores.leases.claim(Pointer(job_id, 0), new_id(), CARD.id, 0)
    assert mill.broken == 0


def test_a_failed_device_gives_the_chunk_back_and_ends_the_process(mill: Mill) -> None:
    job_id = mill.submit(["plum"])
    mill.engine.trouble = Trouble("engine_failed")
    mill.run(job_id)
    assert mill.broken == 1
    assert mill.stores.statuses.get(job_id).pending == 1


def test_an_unexpected_error_gives_the_chunk_back_for_later(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", lambda: 900.0)  # longer than this test takes
    job_id = mill.submit(["plum"])
    mill.engine.trouble = RuntimeError("a bug")
    mill.run(job_id)
    # Then it is pending, but not at once: a bug that repeats must not spin
    assert mill.stores.statuses.get(job_id).pending == 1
    assert mill.stores.leases.claim(Pointer(job_id, 0), new_id(), CARD.id, 0) == []


def test_an_unexpected_error_in_one_chunk_costs_those_claimed_with_it_nothing(mill: Mill) -> None:
    # Given a worker that takes several chunks on one message, one of which cannot be decoded
    measure_pace(mill)
    jobs = [mill.submit([word]) for word in ("plum", "pear", "fig")]
    with mill.stores.database.write() as connection:
        spoiled = update(InputRow).where(InputRow.job_id == jobs[1])
        connection.execute(spoiled.values(texts=b"nonsense"))
    # When it takes them
    mill.run(jobs[0])
    # Then the others are done, and the one to blame waits for another try
    states = [mill.stores.statuses.get(job_id).state for job_id in jobs]
    assert states == [JobState.COMPLETED, JobState.RUNNING, JobState.COMPLETED]


def test_a_chunk_that_fails_for_unknown_reasons_is_given_up_after_ten_claims_and_can_be_retried(mill: Mill) -> None:
    # Given a chunk that was claimed nine times in vain
    job_id = mill.submit(["plum", " "], invalid={1: ItemError("invalid_item", "Refused at the door.")})
    with mill.stores.database.write() as connection:
        connection.execute(update(ChunkRow).where(ChunkRow.job_id == job_id).values(failures=9))
    # When its tenth attempt fails as well
    mill.engine.trouble = RuntimeError("nobody foresaw this")
    mill.run(job_id)
    # Then its items have an error, the invalid one its own, and the job has ended
    status = mill.stores.statuses.get(job_id)
    assert (status.state, status.failed, status.pending) == (JobState.COMPLETED, 2, 0)
    errors = next(iter(mill.stores.results.pages(job_id))).errors
    assert [errors[i].code for i in (0, 1)] == ["unexpected", "invalid_item"]
    assert mill.finished == [job_id]
    # And a retry does it
    assert mill.stores.jobs.retry_failed(job_id) == 1
    mill.run(job_id)
    assert mill.stores.statuses.get(job_id).succeeded == 1


def test_a_result_that_comes_after_a_cancel_changes_nothing(mill: Mill) -> None:
    # Given a chunk in the engine
    job_id = mill.submit(["plum"])
    mill.engine.gate.clear()
    work = threading.Thread(target=mill.run, args=(job_id,))
    work.start()
    assert mill.engine.entered.wait(60)
    # When its job is cancelled before the engine is done
    mill.stores.jobs.cancel(job_id)
    mill.engine.gate.set()
    work.join(60)
    # Then the item is cancelled and stays so
    status = mill.stores.statuses.get(job_id)
    assert (status.state, status.cancelled, status.succeeded) == ("cancelled", 1, 0)
    assert mill.finished == []


def test_retry_embeds_the_failed_items_alone_and_keeps_the_others_bytes(mill: Mill) -> None:
    # Given a job whose second item failed
    mill.engine.failing = {"pear"}
    job_id = mill.submit(["plum", "pear", "fig"])
    mill.run(job_id)
    before = mill.matrix(job_id)
    assert mill.stores.statuses.get(job_id).failed == 1 and np.isnan(before[1]).all()
    # When it is retried after the cause is gone
    mill.engine.failing = set()
    assert mill.stores.jobs.retry_failed(job_id) == 1
    assert mill.stores.statuses.get(job_id).pending == 1
    mill.run(job_id)
    # Then only that item was embedded again, and the vectors that were there are the same to the bit
    assert mill.engine.calls[-1] == ["pear"]
    after = mill.matrix(job_id)
    assert np.array_equal(after[[0, 2]], before[[0, 2]]) and np.array_equal(after[1], vector_of("pear"))
    status = mill.stores.statuses.get(job_id)
    assert (status.state, status.succeeded, status.failed) == ("completed", 3, 0)


def test_a_vector_too_large_for_float16_is_that_items_error(mill: Mill) -> None:
    job_id = mill.submit(["plum", "pear"], store_dtype="float16")
    embed = mill.engine.embed

    def enlarge(texts, options, urgent=False):  # type: ignore[no-untyped-def]
        embedded = embed(texts, options, urgent)
        embedded.vectors[1] *= 1e6
        return embedded

    mill.engine.embed = enlarge  # type: ignore[method-assign]
    mill.run(job_id)
    page = next(iter(mill.stores.results.pages(job_id)))
    assert page.errors[1].code == "bad_vector" and page.matrix()[0].dtype == np.float16


def test_truncated_items_are_counted(mill: Mill) -> None:
    job_id = mill.submit(["plum", "a longer fruit"], max_length=5)
    mill.run(job_id)
    status = mill.stores.statuses.get(job_id)
    assert (status.truncated, status.tokens) == (1, 9)


def test_an_urgent_job_is_embedded_as_urgent(mill: Mill) -> None:
    seen: list[bool] = []
    embed = mill.engine.embed

    def note(texts, options, urgent=False):  # type: ignore[no-untyped-def]
        seen.append(urgent)
        return embed(texts, options, urgent)

    mill.engine.embed = note  # type: ignore[method-assign]
    job_id = new_id()
    mill.stores.jobs.create(NewJob(job_id, CARD.name, None, CARD.id, JobOptions().to_dict(), Priority.URGENT))
    mill.stores.chunks.append(job_id, [NewChunk(0, 0, [b"quick"], 3, None, {})])
    mill.stores.jobs.seal(job_id, 1, 1)
    mill.run(job_id)
    assert seen == [True]


def test_a_deterministic_chunk_has_no_company_and_a_retry_has_that_of_the_first_time(mill: Mill) -> None:
    # Given a deterministic job of two chunks where an item fails, when one message brings both
    mill.engine.failing = {"pear"}
    job_id = mill.submit(["plum", "pear", "fig"], ["quince"], deterministic=True)
    mill.embedding._pace._rate = 1e6
    mill.run(job_id)
    # Then each is a call of its own
    assert mill.engine.calls == [["plum", "pear", "fig"], ["quince"]]
    before = mill.matrix(job_id)
    # And the item is tried again beside the texts it was with, whose outcomes stay
    mill.engine.failing.clear()
    assert mill.stores.jobs.retry_failed(job_id) == 1
    mill.run(job_id)
    assert mill.engine.calls[2:] == [["plum", "pear", "fig"]]
    after = mill.matrix(job_id)
    assert np.array_equal(after[[0, 2, 3]], before[[0, 2, 3]]) and np.array_equal(after[1], vector_of("pear"))


def test_states_of_tokens_are_kept_text_by_text_each_chunk_on_its_own(mill: Mill) -> None:
    # Given two calls for states of tokens beside an ordinary job, one text of which fails and one of which is cut
    mill.engine.failing.add("quince")
    calls = [mill.submit(["plum", "quince", "fig"], pooling="none"), mill.submit(["pear"], ["fig"], pooling="none")]
    job = mill.submit(["plum"])
    # When one message brings as much as it can
    mill.embedding._pace._rate = 1e6
    mill.run(calls[0])
    # Then each chunk that asks for states went through the engine alone
    assert sorted(map(sorted, mill.engine.calls)) == [["fig"], ["fig", "plum", "quince"], ["pear"], ["plum"]]
    # And each text has the states of its own tokens, that which failed its error
    (page,) = mill.stores.results.pages(calls[0])
    assert [len(text) for text in page.states()] == [4, 0, 3] and set(page.errors) == {1}
    np.testing.assert_array_equal(page.states()[2], [vector_of("f"), vector_of("fi"), vector_of("fig")])
    assert [len(page.states()[0]) for page in mill.stores.results.pages(calls[1])] == [4, 3]
    assert np.array_equal(mill.matrix(job), [vector_of("plum")])
    # And all are counted as ever
    status = mill.stores.statuses.get(calls[0])
    assert (status.state, status.succeeded, status.failed, status.tokens) == (JobState.COMPLETED, 2, 1, 13)
    assert sorted(mill.finished) == sorted([*calls, job])
