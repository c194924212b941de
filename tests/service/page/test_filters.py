"""The list of jobs narrowed and paged, on a desk and on a phone, and jobs that still take their texts."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence

import httpx
import pytest
from playwright.sync_api import Page, expect

from storage.clock import Clock
from storage.purges import PurgeStore
from storage.statuses import JobStatus, StatusStore
from tests.service.page.conftest import Visit
from tests.service.page.test_jobs_page import check_landmarks, waiting_job
from tests.service.serving import Served

_FILTERS = ["All", "Running", "Queued", "Accepting", "Completed", "Failed", "Expired", "Cancelled"]


def names(page: Page) -> list[str]:
    """Return the names of the jobs in the list."""
    return page.locator(".job-name").all_inner_texts()


def chosen(page: Page) -> list[str]:
    """Return the filters that are shown as chosen."""
    return page.locator(".filters [aria-current]").all_inner_texts()


def test_a_narrowed_list_stays_narrowed_when_it_is_paged_and_loaded_again(visit: Visit, served: Served) -> None:
    # Given more waiting jobs of one model than a page has room for, and a newer one of another
    model = "mill/paged & sorted"
    for number in range(22):
        waiting_job(served, model, f"Sack {number}", texts=1)
    waiting_job(served, "mill/other", "A stranger")
    page = visit()
    # When one looks for those that wait, and clicks the model of one
    page.get_by_role("link", name="Queued").click()
    page.wait_for_url("**/?state=queued")
    page.goto("/?state=queued&model=mill%2Fpaged+%26+sorted")
    newest = [f"Sack {number}" for number in range(21, 1, -1)]
    assert names(page) == newest
    # Then older ones of the same kind follow, also after loading again, and the way back leads to the newest
    page.get_by_role("link", name="Older jobs").click()
    page.wait_for_url(re.compile("before="))
    for _ in range(2):
        assert names(page) == ["Sack 1", "Sack 0"]
        assert chosen(page) == ["Queued"]
        expect(page.get_by_role("link", name="show jobs of every model")).to_be_visible()
        expect(page.get_by_role("link", name="Older jobs")).to_have_count(0)
        page.reload()
    page.get_by_role("link", name="Newest jobs").click()
    page.wait_for_url(re.compile(r"/\?state=queued&model="))
    assert names(page) == newest
    # And another state is looked for among the same model's, until that is taken back
    page.get_by_role("link", name="Cancelled").click()
    page.wait_for_url(re.compile("state=cancelled"))
    expect(page.get_by_text("No cancelled job for mill/paged & sorted is there.")).to_be_visible()
    page.get_by_role("link", name="show jobs of every model").click()
    page.wait_for_url(served.url + "/?state=cancelled")
    page.get_by_role("link", name="Queued").click()
    page.wait_for_url(served.url + "/?state=queued")
    assert names(page)[0] == "A stranger"


def test_on_a_phone_every_filter_is_in_sight_and_large_enough_for_a_finger(visit: Visit, served: Served) -> None:
    # Given a phone, and a list that is narrowed by the last filter and by a model with a long name
    page = visit("/?state=cancelled&model=mill%2F" + "long" * 12, viewport={"width": 390, "height": 844})
    # Then each filter lies within its width, none over another
    links = page.locator(".filters a").all()
    assert [link.inner_text() for link in links[:-1]] == _FILTERS
    boxes = [link.bounding_box() for link in links]
    for place, box in enumerate(boxes):
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["height"] >= 36
        for other in boxes[:place]:
            assert other and (other["x"] + other["width"] <= box["x"] or other["y"] + other["height"] <= box["y"])
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    # And the keyboard reaches them in that order
    links[0].focus()
    for link in links[1:]:
        page.keyboard.press("Tab")
        expect(link).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url(served.url + "/?state=cancelled")
    assert chosen(page) == ["Cancelled"]


def test_a_job_that_still_takes_its_texts_can_be_deleted_and_cannot_be_cancelled(
    visit: Visit, served: Served, http: httpx.Client
) -> None:
    # Given a job that takes its texts in parts, one of which is there
    job_id = http.post("/v1/jobs", json={"parts": True, "name": "Half a sack"}).json()["id"]
    lines = {"Content-Type": "application/x-ndjson"}
    assert http.put(f"/v1/jobs/{job_id}/parts/0", content=b'"rye"\n', headers=lines).status_code == 200
    page = visit("/?state=accepting")
    # When it is looked at
    page.get_by_role("link", name="Half a sack").click()
    page.wait_for_url(f"**/jobs/{job_id}")
    check_landmarks(page)
    # Then it is not offered to cancel it, which cannot be done; deleting can
    expect(page.get_by_text("Cancel…")).to_have_count(0)
    page.get_by_text("Delete…").click()
    page.get_by_role("button", name="Delete this job").click()
    page.wait_for_url(served.url + "/")
    assert http.get(f"/v1/jobs/{job_id}").status_code == 404


def test_whoever_deletes_a_job_comes_to_the_list_however_long_that_takes(
    visit: Visit, served: Served, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a service that has deleted a job, and takes longer to answer than the page waits between two looks
    job_id = http.post("/v1/jobs", json={"parts": True, "name": "Half a sack"}).json()["id"]
    delete = PurgeStore.discard

    def slowly(purges: PurgeStore, job_id: str) -> bool:
        done = delete(purges, job_id)
        threading.Event().wait(4)
        return done

    monkeypatch.setattr(PurgeStore, "discard", slowly)
    page = visit(f"/jobs/{job_id}")
    # When somebody deletes it there, then he sees the list, and not that the page is gone
    page.get_by_text("Delete…").click()
    page.get_by_role("button", name="Delete this job").click()
    page.wait_for_url(served.url + "/")
    assert http.get(f"/v1/jobs/{job_id}").status_code == 404


@pytest.mark.parametrize("state", ["nonsense", "\x00", "RUNNING", "\ud800"])
def test_a_state_that_no_job_has_is_told_and_not_taken_for_all(http: httpx.Client, state: str) -> None:
    answer = http.get("/", params={"state": state.encode(errors="surrogatepass")})
    assert answer.status_code == 400 and "no such state" in answer.text


def test_how_long_ago_is_told_by_the_clock_that_the_times_are_of(http: httpx.Client, served: Served) -> None:
    # Given a job that was made now, by the clock of a database
    job_id = waiting_job(served, name="Sown long ago")
    database = served.service.stores.database
    own, now = database.clock, database.clock.now()
    # When that clock has gone on for three hours, whatever this machine's own says
    database.clock = Clock(lambda: int((now + 3 * 3600 + 60) * 1000))
    try:
        pages = [http.get(path).text for path in ("/", f"/jobs/{job_id}")]
    finally:
        database.clock = own
    # Then both pages say so
    assert all("3 h ago" in page for page in pages)


def test_a_job_that_is_deleted_while_the_list_is_made_does_not_spoil_it(
    served: Served, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two jobs, of which one is deleted once its counts were read
    waiting_job(served, "mill/fleeting", "A steady one")
    fleeting, stores = waiting_job(served, "mill/fleeting", "A fleeting one"), served.service.stores
    many = StatusStore.many

    def then_deleted(statuses: StatusStore, job_ids: Sequence[str]) -> list[JobStatus]:
        found = many(statuses, job_ids)
        stores.jobs.cancel(fleeting)
        stores.purges.delete(fleeting)
        return found

    monkeypatch.setattr(StatusStore, "many", then_deleted)
    # When the list is looked at, then it shows the other one
    answer = http.get("/", params={"model": "mill/fleeting"})
    assert answer.status_code == 200 and "A steady one" in answer.text
