"""Slots that cannot work: a model that does not load, a device that fails once or always; no text pays for that."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.faults.bent import bent_mill, start_bent, total
from tests.faults.forms import KINDS, full, scenario
from tests.faults.mill import Mill
from tests.faults.running import running_mill
from tests.stack import free_port


@scenario("F29")
@full
@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_whose_model_does_not_load_says_why_and_takes_nothing(kind: str) -> None:
    # Given a worker machine whose copy of the model is damaged
    with running_mill(kind, workers=0) as mill:
        port, why = free_port(), "the weights end too early"
        start_bent(mill, FAULTS_NO_MODEL=why, EMBEDMILL_HEALTH_PORT=str(port))
        # When a job is there
        mill.submit(100, length=2_000)
        mill.wait_counted("workers_died", 1)
        # Then it says what is wrong, and has taken nothing
        assert mill.wait_for(lambda: why in _readiness(port)[1].get("worker on cpu:0", ""), what="the reason")
        assert _readiness(port)[0] == 503
        assert "exit code 78" in mill.tails(100_000)
        assert (total(mill, "claims"), total(mill, "crashes")) == (0, 0)
        # And a sound worker beside it does all
        mill.start_supervisor()
        mill.wait_complete()
        assert (total(mill, "crashes"), mill.counters().get("leases_released", 0)) == (0, 0)


@scenario("F31")
@pytest.mark.parametrize("kind", KINDS)
def test_a_device_that_fails_for_good_is_left_by_its_process_and_taken_up_by_the_next(kind: str) -> None:
    # Given a worker process
    with running_mill(kind) as mill:
        # When its device fails
        mill.arm("encode", "fail")
        mill.submit(100, length=2_000)
        victim = mill.wait_fired("encode", "fail")
        # Then it ends with the device's exit code, and the next one does all
        mill.record("F31", "seconds until the next commit", mill.seconds_until_progress())
        mill.wait_complete()
        mill.wait_counted("workers_died")
        assert victim not in mill.worker_pids()
        assert "exit code 70" in mill.tails(100_000)
        assert total(mill, "crashes") > 0


@scenario("F31")
@full
@pytest.mark.parametrize("kind", KINDS)
def test_a_sick_slot_is_taken_out_while_another_works_and_tried_again_when_it_is_the_last(kind: str) -> None:
    # Given a machine whose device fails on everything, and a sound one
    with bent_mill(kind, pause=0.2) as mill:
        sound = mill.supervisors[0]
        start_bent(mill, FAULTS_SICK="cpu:0")
        # When jobs of one text keep coming
        _submit_until_counted(mill, "slots_quarantined")
        mill.wait_complete()
        # Then it is taken out, and no text is condemned
        assert mill.counters().get("texts_poisoned", 0) == 0
        died = mill.counters()["workers_died"]
        # And it is tried again as soon as it is the last one
        mill.stop_supervisor(sound)
        mill.submit(1)
        mill.wait_counted("workers_died", died, timeout=60)
        assert "is tried again" in mill.tails(100_000)
        start_bent(mill)
        mill.wait_complete()
        assert mill.counters().get("texts_poisoned", 0) == 0


@scenario("F31")
@full
@pytest.mark.parametrize("kind", KINDS)
def test_a_sick_slot_that_is_the_only_one_condemns_no_text(kind: str) -> None:
    # Given a machine whose only device fails on everything
    with bent_mill(kind, FAULTS_SICK="cpu:0") as mill:
        # When jobs wait through many of its deaths
        for count in (1, 1, 2, 40):
            mill.submit(count, length=2_000)
        mill.wait_counted("workers_died", 7, timeout=120)
        # Then no text is condemned
        assert mill.counters().get("texts_poisoned", 0) == 0
        # And a sound worker does all
        start = time.monotonic()
        start_bent(mill, FAULTS_SICK="none")
        mill.wait_complete()
        mill.record("F31", "seconds a sound worker took for what a sick one had left", time.monotonic() - start)
        assert mill.counters().get("texts_poisoned", 0) == 0


@scenario("F31")
@full
@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_breaks_every_device_is_found_where_the_device_proves_sound_before_it(kind: str) -> None:
    # Given a text on which a device fails for good
    with running_mill(kind) as mill:
        job = mill.client.job(mill.submit(4, markers={1: "!fail"}))
        # When the job is done
        mill.wait_complete(200)
        # Then it is the only one that has no vector
        assert [(error.position, error.error.code) for error in job.errors()] == [(1, "poison")]
        assert mill.wait_counted("texts_poisoned") == 1


def _submit_until_counted(mill: Mill, counter: str) -> None:
    def submitted_and_counted() -> bool:
        mill.submit(1)
        time.sleep(0.2)
        return mill.counters().get(counter, 0) > 0

    mill.wait_for(submitted_and_counted, timeout=120, what=counter)


def _readiness(port: int) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)
    except OSError:
        return 0, {}
