"""Health of the service: alive, ready, and figures."""

from __future__ import annotations

from pathlib import Path

import httpx

from producer.api.settings import ApiSettings
from producer.listening import take_port
from storage.database import Database
from storage.migrations import migrate
from tests.service.serving import serving


def test_a_service_beside_a_live_worker_is_ready_and_says_what_with(http: httpx.Client) -> None:
    # Given the running stack, when asked for health
    alive, ready = http.get("/healthz"), http.get("/readyz")
    # Then it lives, and each part is ready
    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
    assert ready.status_code == 200
    assert ready.json() == {"status": "ready", "storage": "ready", "worker on cpu": "ready"}


def test_a_service_without_a_worker_is_alive_and_not_ready(tmp_path: Path) -> None:
    # Given a database that no worker has ever seen
    url = f"sqlite:///{tmp_path / 'empty.sqlite3'}"
    database = Database(url)
    migrate(database)
    database.close()
    # When the service runs over it
    with serving(ApiSettings.load(database_url=url, data_dir=tmp_path)) as served, served.http() as http:
        # Then it says what is missing
        assert http.get("/healthz").status_code == 200
        answer = http.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {"status": "not ready", "storage": "ready", "worker": "none serves a model"}
        # And that jobs are taken all the same
        taking = http.get("/readyz", params={"exclude": "workers"})
        assert (taking.status_code, taking.json()) == (200, {"status": "ready", "storage": "ready"})
        assert http.get("/readyz", params={"exclude": "storage"}).status_code == 400
        # And when the database goes away, then that is told too, in each place
        for file in tmp_path.glob("empty.sqlite3*"):
            file.unlink()
        (tmp_path / "empty.sqlite3").mkdir()
        served.service.stores.database.close()
        away = http.get("/readyz")
        assert away.status_code == 503 and away.json()["storage"] != "ready"
        assert http.get("/readyz", params={"exclude": "workers"}).status_code == 503
        assert http.get("/metrics").status_code == 503


def test_a_supervisor_beside_the_service_that_does_not_answer_makes_it_not_ready(data_dir: Path) -> None:
    # Given a service whose supervisor hangs
    with take_port("127.0.0.1", 0) as silent:
        machine = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with serving(ApiSettings.load(data_dir=data_dir, machine=machine)) as served, served.http() as http:
            # When asked, then it says so
            answer = http.get("/readyz")
            assert answer.status_code == 503 and answer.json()["supervisor"] == "does not answer"


def test_metrics_hold_the_installations_figures(http: httpx.Client) -> None:
    # Given a running stack, when asked for its figures
    answer = http.get("/metrics")
    # Then those of all machines are there, in Prometheus' form
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "embedmill_workers{model=" in answer.text and "embedmill_jobs_expired_total " in answer.text
