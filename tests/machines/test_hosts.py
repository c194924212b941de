"""Hosts cut off, slowed and rebooted in the midst of a job: what it costs is time, and how much is written down."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.faults.forms import scenario
from tests.faults.recoveries import Held, held_by
from tests.machines.fleet import Fleet, running_fleet
from tests.machines.forms import full

LEASE = 6.0

#: How long a host is away, in seconds: longer than a lease.
AWAY = 12.0

#: How long nothing may be written before a fleet has come to rest, in seconds: a dozen times as long as a chunk takes.
SETTLED = 3.0

#: Seconds that a text takes on a host that is slow; 0.01 on the others. A chunk has eighteen such texts.
SLOW = "0.4"

#: The hosts of workers.
HOSTS = {"worker1", "worker2", "worker3"}

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with running_fleet(lease=LEASE) as fleet:
        yield fleet


@pytest.fixture(autouse=True)
def whole(fleet: Fleet) -> Iterator[None]:
    """Every test begins with a fleet that is whole, and ends with one that has done everything right."""
    yield
    fleet.heal()
    fleet.wait_for(lambda: fleet.ready_workers() == 3, 120, "all workers to be back")
    fleet.wait_complete(120)
    fleet.judge().assert_clean()


def at_work(fleet: Fleet, count: int = 1_500) -> None:
    """Submit a job that lasts a while, and more where it was over too soon; return once all three hosts work."""
    fleet.start_producer(count, length=2_000)
    seen: set[str] = set()

    def all_work() -> bool:
        see_to_work(fleet)
        seen.update(filter(fleet.holds, HOSTS))
        return seen == HOSTS

    fleet.wait_for(all_work, what="three hosts at work")


def held_on(fleet: Fleet, name: str) -> list[Held]:
    """Wait until a host holds chunks, cut it off, and return what it holds then, which is something."""
    while True:
        wait_until_it_works(fleet, name)
        fleet.hosts[name].unplug()
        if held := held_by(fleet.plain, fleet.pids_on(name)):
            return held
        fleet.hosts[name].plug()


def see_to_work(fleet: Fleet) -> None:
    """Submit a job where none is open."""
    if not fleet.open_jobs() and all(process.poll() is not None for process in fleet.producers):
        fleet.start_producer(600, length=2_000)


def wait_until_it_works(fleet: Fleet, name: str) -> None:
    """Wait until a host holds chunks, and see to it that there are some."""

    def works() -> bool:
        see_to_work(fleet)
        return fleet.holds(name) > 0

    fleet.wait_for(works, 120, f"{name} to work again")


def seconds_until_taken_over(fleet: Fleet, held: list[Held]) -> float:
    """Wait until others have claimed or done whatever was held; return how long that took."""
    began = time.monotonic()
    query = "SELECT 1 FROM chunks WHERE job_id = ? AND number = ? AND (token > ? OR state = 'done')"
    fleet.wait_for(
        lambda: all(fleet.plain.rows(query, (one.job, one.number, one.token)) for one in held), 120, "a take-over"
    )
    return time.monotonic() - began


@scenario("M1")
@full
def test_work_is_spread_over_three_hosts(fleet: Fleet) -> None:
    # Given jobs of four producers, one of them over HTTP
    began, written = time.monotonic(), fleet.commits()
    for _ in range(3):
        fleet.start_producer(1_000, length=2_000)
    fleet.start_producer(300, length=2_000, over_http=True)
    seen: set[str] = set()

    def all_done() -> bool:
        seen.update(filter(fleet.holds, HOSTS))
        return all(process.poll() is not None for process in fleet.producers) and not fleet.open_jobs()

    # When all of them are done, then each host has had chunks
    fleet.wait_for(all_done, 290, "all jobs to end")
    fleet.record("M1", "seconds for 3,300 texts", time.monotonic() - began)
    for process in fleet.producers[-4:]:
        fleet.accepted(process)
    assert seen == HOSTS
    assert fleet.commits() - written >= 3_300 // 20
    assert fleet.ready_workers() == 3


@scenario("M2")
def test_a_worker_host_that_is_cut_off_is_taken_over_from_and_changes_nothing_when_it_is_back(fleet: Fleet) -> None:
    # Given three hosts at work
    at_work(fleet)
    before = fleet.counters()
    # When one's cable is pulled
    held = held_on(fleet, "worker2")
    assert held
    # Then the others take over what it held
    fleet.record("M2", "seconds until others had what it held", seconds_until_taken_over(fleet, held))
    # And when it is back, what it brings is refused, and it works again
    fleet.hosts["worker2"].plug()
    back = time.monotonic()
    fleet.wait_counted("commits_late", before.get("commits_late", 0), timeout=90)
    fleet.record("M2", "seconds from its return until its late work was refused", time.monotonic() - back)
    wait_until_it_works(fleet, "worker2")
    fleet.record("M2", "seconds from its return until it worked again", time.monotonic() - back)


@scenario("M2")
@full
def test_a_worker_host_that_is_cut_off_in_the_midst_of_its_commit_keeps_nobody_waiting(fleet: Fleet) -> None:
    # Given a worker that has locked its chunks in the transaction that commits
    at_work(fleet)
    fleet.arm("commit.guarded", "stop")
    worker = fleet.wait_fired("commit.guarded", "stop")
    name = next(name for name in ("worker1", "worker2", "worker3") if worker in fleet.hosts[name].pids())
    # When its host is cut off
    fleet.hosts[name].unplug()
    held = held_by(fleet.plain, [worker])
    # Then what it held is taken over once PostgreSQL has ended its transaction, and others are not kept from working
    began = time.monotonic()
    fleet.seconds_from(began)
    fleet.record("M2", "seconds until others wrote new work beside an open commit", time.monotonic() - began)
    fleet.record("M2", "seconds until others had what was in an open commit", seconds_until_taken_over(fleet, held))
    fleet.thaw(worker)


@scenario("M3")
@full
@pytest.mark.timeout(700)
def test_a_slow_host_costs_its_own_time_alone(fleet: Fleet) -> None:
    # Given three hosts, one of them so slow that a chunk takes longer than a lease, behind a bad line
    fleet.exchange("worker3", FAULTS_PAUSE_PER_TEXT=SLOW)
    wait_until_it_works(fleet, "worker3")
    fleet.wait_complete(200)
    fleet.hosts["worker3"].slow("256kbit")
    fleet.hosts["worker3"].lose(0.02)
    before, mark = fleet.counters(), fleet.commits()
    began = time.monotonic()
    at_work(fleet)
    held = fleet.wait_for(lambda: held_by(fleet.plain, fleet.pids_on("worker3")), what="the slow one to hold chunks")
    since = time.monotonic()
    # When what it holds is done, then by itself, since its leases hold
    places = [(one.job, one.number) for one in held]
    query = "SELECT token, state FROM chunks WHERE job_id = ? AND number = ?"
    fleet.wait_for(lambda: all(fleet.plain.rows(query, place)[0][1] == "done" for place in places), 200, "its chunks")
    fleet.record("M3", f"seconds for which it held {len(held)} chunks", time.monotonic() - since)
    assert [fleet.plain.rows(query, place)[0][0] for place in places] == [one.token for one in held]
    # And the others have carried on meanwhile
    others = fleet.commits() - mark - len(held)
    fleet.record("M3", "chunks that others wrote meanwhile", others)
    assert others > len(held) > 0
    fleet.wait_complete(300)
    fleet.record("M3", "seconds for 1,500 texts with it", time.monotonic() - began)
    # And nothing was computed twice: no lease ran out, no work came late, no chunk was claimed again
    after = fleet.counters()
    for name in ("leases_expired", "commits_late"):
        assert after.get(name, 0) == before.get(name, 0), name
    again = fleet.plain.value(
        "SELECT count(*) FROM chunks WHERE claims > 1 AND state = 'done' AND job_id = ?", held[0].job
    )
    fleet.record("M3", "chunks claimed twice", again)
    assert again == 0
    # And without it nobody waits for it
    fleet.exchange("worker3")
    wait_until_it_works(fleet, "worker3")
    fleet.wait_complete(200)
    began = time.monotonic()
    fleet.accepted(fleet.start_producer(1_500, length=2_000))
    fleet.wait_complete(200)
    fleet.record("M3", "seconds for 1,500 texts with three good hosts", time.monotonic() - began)


@scenario("M4")
@full
def test_a_worker_host_that_is_rebooted_costs_a_lease(fleet: Fleet) -> None:
    at_work(fleet)
    fleet.wait_for(lambda: fleet.holds("worker1"), what="worker1 to hold chunks")
    held = held_by(fleet.plain, fleet.pids_on("worker1"))
    # When its power fails
    fleet.hosts["worker1"].lose_power()
    fleet.record("M4", "seconds until others had what it held", seconds_until_taken_over(fleet, held))
    # And it is started again
    fleet.hosts["worker1"].boot()
    fleet.revive_supervisors()
    back = time.monotonic()
    wait_until_it_works(fleet, "worker1")
    fleet.record("M4", "seconds from its start until it worked again", time.monotonic() - back)


@scenario("M5")
@full
def test_a_redis_host_that_is_cut_off_costs_a_pause(fleet: Fleet) -> None:
    # Given three hosts at work, when Redis' is cut off
    at_work(fleet, 2_500)
    fleet.hosts["redis"].unplug()
    before = fleet.commits()
    # Then jobs are taken, what is under way is done, and nothing more
    producer = fleet.start_producer(50, length=2_000)
    fleet.accepted(producer)
    time.sleep(AWAY)
    written = fleet.commits()
    assert written > before
    time.sleep(SETTLED)
    assert fleet.commits() == written and fleet.open_jobs()
    # And when it is back, work goes on
    fleet.hosts["redis"].plug()
    fleet.record("M5", "seconds from its return until new work was written", fleet.seconds_from(time.monotonic()))


@scenario("M6")
@full
@pytest.mark.parametrize("away", [AWAY, 60.0])
def test_a_database_host_that_is_cut_off_costs_a_pause(fleet: Fleet, away: float) -> None:
    at_work(fleet, 2_500)
    crashed = fleet.counters().get("workers_died", 0)
    fleet.hosts["postgres"].unplug()
    time.sleep(away)
    fleet.hosts["postgres"].plug()
    figure = f"seconds from its return after {away:.0f} s until new work was written"
    fleet.record("M6", figure, fleet.seconds_from(time.monotonic()))
    assert fleet.counters().get("workers_died", 0) == crashed


@scenario("M6")
@full
def test_a_database_host_that_is_rebooted_costs_a_pause(fleet: Fleet) -> None:
    assert fleet.postgres is not None
    at_work(fleet, 2_500)
    fleet.postgres.close()
    fleet.plain.close()
    fleet.hosts["postgres"].lose_power()
    fleet.postgres.process.wait(60)  # type: ignore[union-attr]
    fleet.postgres.process = None
    time.sleep(3)
    fleet.hosts["postgres"].boot()
    fleet.postgres.start()
    fleet.record(
        "M6", "seconds from its start after a reboot until new work was written", fleet.seconds_from(time.monotonic())
    )


@scenario("M7")
@full
def test_a_producer_that_is_cut_off_while_it_submits_over_http_goes_on_when_it_is_back(fleet: Fleet) -> None:
    # Given a large submission under way to the service
    rows = "SELECT count(*) FROM inputs"
    before = int(fleet.plain.value(rows))
    fleet.hosts["producer"].slow("8mbit")
    producer = fleet.start_producer(20_000, length=2_000, over_http=True)
    fleet.wait_for(lambda: int(fleet.plain.value(rows)) > before + 20, 120, "the submission's midst")
    # When its host is cut off, nobody sees a job of it
    fleet.hosts["producer"].unplug()
    time.sleep(AWAY)
    assert producer.poll() is None
    jobs = len(fleet.ledger.accepted())
    # And when it is back, the submission goes on and is one job
    fleet.hosts["producer"].plug()
    fleet.hosts["producer"].mend()
    back = time.monotonic()
    at = int(fleet.plain.value(rows))
    fleet.wait_for(lambda: int(fleet.plain.value(rows)) > at, 120, "more texts to come")
    fleet.record("M7", "seconds from its return until more texts came", time.monotonic() - back)
    fleet.accepted(producer, 240)
    assert len(fleet.ledger.accepted()) == jobs + 1
    fleet.wait_complete(300)


@scenario("M8")
@full
def test_a_client_that_waits_hears_the_end_of_its_job_from_a_service_that_was_rebooted(fleet: Fleet) -> None:
    # Given a client that waits for its job
    producer = fleet.start_producer(1_200, length=2_000, over_http=True)
    fleet.accepted(producer)
    job = fleet.ledger.accepted()[-1].job
    assert job is not None
    waiter, log = fleet.start_waiter(job), fleet.last_log
    fleet.wait_for(lambda: log.read_text().strip(), what="the client to wait")
    # When the service's host loses its power, and is started again
    fleet.hosts["api"].lose_power()
    time.sleep(5)
    fleet.hosts["api"].boot()
    fleet.start_service()
    back = time.monotonic()
    # Then the client hears of the job's end
    fleet.wait_for(lambda: waiter.poll() is not None, 240, "the client to return")
    ended = time.monotonic() - back
    assert waiter.returncode == 0, fleet.tails()
    fleet.record("M8", "seconds from its start until the client had the job's end", ended)
