"""The list of jobs, its form, and the page of one job, in a real browser and over HTTP."""

from __future__ import annotations

import re

import httpx
from playwright.sync_api import Page, expect

from storage.contract.ids import new_id
from storage.contract.options import JobOptions
from storage.newjobs import NewJob
from tests.acceptance.shell import until
from tests.service.page.conftest import PATIENCE, Visit
from tests.service.serving import Served
from tests.storage.builders import chunk

SCRIPT = '<script>document.title="owned"</script><img src=x onerror=alert(1)>&amp;'


def waiting_job(served: Served, model: str = "mill/not-served", name: str | None = None, texts: int = 2) -> str:
    """Put a job there that nobody works on; return its id."""
    stores, job_id = served.service.stores, new_id()
    asked = NewJob(job_id, model, None, None, JobOptions().to_dict(), name=name)
    assert stores.jobs.accept(asked, [chunk(0, ["rye"] * texts)]) is not None
    return job_id


def token_of(http: httpx.Client) -> str:
    """Return what a form of the page carries."""
    found = re.search(r'name="token" value="([0-9a-f]+)"', http.get("/").text)
    assert found
    return found[1]


def test_pasted_texts_become_a_job_that_is_watched_to_its_end(visit: Visit, served: Served) -> None:
    # Given the page, when texts are pasted and submitted
    page = visit()
    page.get_by_label("Texts, one on each line").fill("wheat and rye\n\nbarley")
    page.get_by_label("Name optional").fill("Grains of the valley")
    page.get_by_text("Options", exact=True).click()
    page.get_by_label("Invalid texts").select_option("keep")
    page.get_by_role("button", name="Submit").click()
    # Then its own page shows it, and moves on without being loaded again
    page.wait_for_url("**/jobs/*")
    expect(page.get_by_role("heading", level=1)).to_have_text("Grains of the valley")
    page.evaluate("window.stillHere = true")
    expect(page.locator("#head .badge")).to_have_text("completed", timeout=PATIENCE)
    assert page.evaluate("window.stillHere")
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "3")
    expect(page.locator("#failures tbody tr")).to_contain_text(["invalid_item"])


def test_a_file_is_read_as_what_its_name_says(visit: Visit, served: Served) -> None:
    page = visit()
    page.get_by_label("or a file").set_input_files(
        {"name": "rows.csv", "mimeType": "text/csv", "buffer": b"sku,title\na1,wheat\nb2,rye\n"}
    )
    page.get_by_text("Options", exact=True).click()
    page.get_by_label("Texts in").fill("title")
    page.get_by_label("Ids in").fill("sku")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/jobs/*")
    record = served.service.stores.jobs.get(page.url.rsplit("/", 1)[1])
    assert (record.total, record.has_ids) == (2, True)


def test_a_job_that_waits_says_why_and_is_cancelled_after_a_second_thought(visit: Visit, served: Served) -> None:
    # Given a job for a model that nobody serves
    job_id = waiting_job(served)
    page = visit(f"/jobs/{job_id}")
    expect(page.get_by_text("Waits for a worker that serves mill/not-served")).to_be_visible()
    # When one asks to cancel it, then it is asked once more, and done then
    assert not page.get_by_role("button", name="Cancel this job").is_visible()
    page.get_by_text("Cancel…").click()
    page.get_by_role("button", name="Cancel this job").click()
    expect(page.locator("#head .badge")).to_have_text("cancelled")
    # And an ended job can be deleted
    page.get_by_text("Delete…").click()
    page.get_by_role("button", name="Delete this job").click()
    page.wait_for_url(served.url + "/")
    assert job_id not in served.service.stores.jobs.list_ids(100)


def test_what_looks_like_a_script_is_shown_as_text(visit: Visit, served: Served) -> None:
    # Given names and ids that are scripts
    job_id = waiting_job(served, model=SCRIPT, name=SCRIPT)
    failing = served.service.client.submit_records(
        [("", SCRIPT, "", None), ("rye", "plain", "", None)], with_ids=True, on_invalid="keep", name=SCRIPT
    )
    failing.wait(60)
    # When the pages show them, then as they are written
    page = visit(f"/jobs/{job_id}")
    expect(page.get_by_role("heading", level=1)).to_have_text(SCRIPT)
    expect(page.locator("dd", has_text=SCRIPT).first).to_be_visible()
    page.goto(f"/jobs/{failing.id}")
    expect(page.locator("#failures td.mono").first).to_have_text(SCRIPT)
    page.goto("/")
    expect(page.locator(f"[id='job-{job_id}']")).to_have_text(SCRIPT)
    assert page.title() == "Jobs · Embedmill"
    assert page.locator("main img, main script").count() == 0


def test_everything_essential_works_without_javascript(visit: Visit, served: Served) -> None:
    page = visit(java_script_enabled=False)
    page.get_by_label("Texts, one on each line").fill("wheat")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/jobs/*")
    served.service.client.job(page.url.rsplit("/", 1)[1]).wait(60)
    page.reload()
    expect(page.locator("#head .badge")).to_have_text("completed")


def test_every_field_has_a_label_and_the_keyboard_reaches_everything(visit: Visit, served: Served) -> None:
    page = visit()
    for path in ("/", f"/jobs/{waiting_job(served)}", "/workers"):
        page.goto(path)
        check_landmarks(page)
    # Given the page, when only the keyboard is used
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_label("Texts, one on each line").focus()
    page.keyboard.type("typed, not clicked")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Name optional")).to_be_focused()
    # Then a form is sent by it
    page.keyboard.press("Enter")
    page.wait_for_url("**/jobs/*")


def check_landmarks(page: Page) -> None:
    """Check what a screen reader goes by."""
    unlabelled = "[...document.querySelectorAll('input:not([type=hidden]),select,textarea')]" + (
        ".filter(field => !field.labels.length).map(field => field.name)"
    )
    assert page.evaluate(unlabelled) == []
    doubled = (
        "(ids => ids.filter((id, at) => ids.indexOf(id) !== at))([...document.querySelectorAll('[id]')].map(e => e.id))"
    )
    assert page.evaluate(doubled) == []
    assert page.locator("h1").count() == page.get_by_role("main").count() == page.get_by_role("banner").count() == 1
    expect(page.get_by_role("navigation", name="Pages")).to_be_visible()


def test_a_phone_shows_all_of_it_without_scrolling_sideways(visit: Visit, served: Served) -> None:
    job_id = waiting_job(served, name="A name as long as nobody would ever give to a job of his, " * 3)
    page = visit(viewport={"width": 360, "height": 740})
    for path in ("/", f"/jobs/{job_id}", "/workers"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path


def test_what_is_refused_comes_back_with_the_reason_and_what_was_typed(http: httpx.Client, served: Served) -> None:
    # Given a form with a text that is no text, and an option that no model has
    before = served.service.stores.jobs.list_ids(1)
    token = token_of(http)
    for given, reason in (
        ({"texts": "wheat\n \nrye"}, "line 2"),
        ({"texts": "wheat", "dimensions": "many"}, "dimensions must be a whole number"),
        ({"texts": "wheat", "dimensions": "4000"}, "dimensions is 4000"),
        ({"texts": "wheat", "model": "mill/nobody"}, "No worker has ever served mill/nobody"),
        ({"texts": "", "name": "nothing"}, "There is no text to embed"),
    ):
        # When it is sent
        answer = http.post("/jobs", data=given | {"token": token})
        # Then the page says so, keeps what was typed, and there is no job
        assert 400 <= answer.status_code < 500, given
        assert reason in answer.text
        assert (given.get("name") or given["texts"].splitlines()[0]) in answer.text
    assert served.service.stores.jobs.list_ids(1) == before


def test_no_other_site_can_send_a_form(http: httpx.Client, served: Served) -> None:
    job_id = waiting_job(served)
    token = token_of(http)
    for headers, fields in (
        ({}, {}),
        ({}, {"token": "0" * 64}),
        ({}, {"token": "ä"}),
        ({"Origin": "https://elsewhere.example"}, {"token": token}),
        ({"Origin": "null"}, {"token": token}),
        ({"Origin": "http://["}, {"token": token}),
        ({"Sec-Fetch-Site": "cross-site"}, {"token": token}),
    ):
        answer = http.post(f"/jobs/{job_id}/cancel", data=fields, headers=headers)
        assert answer.status_code == 403, (headers, fields)
    assert served.service.stores.statuses.get(job_id).state == "queued"
    assert http.post(f"/jobs/{job_id}/cancel", data={"token": token}).status_code == 303


def test_what_is_not_there_or_not_possible_is_told_on_a_page(http: httpx.Client, served: Served) -> None:
    token, job_id = token_of(http), waiting_job(served)
    unknown = http.get(f"/jobs/{new_id()}")
    assert (unknown.status_code, unknown.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert http.get("/jobs/no-id").status_code == 404
    assert http.get("/?before=no-id").status_code == 404
    assert http.get("/?model=%00&state=%00").status_code == 400
    assert http.get("/static/nothing.js").status_code == 404
    early = http.post(f"/jobs/{job_id}/retry", data={"token": token})
    assert early.status_code == 409
    assert "Only a completed job" in early.text
    garbled = http.post("/jobs", content=b"nonsense", headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert garbled.status_code in (400, 403)


def test_the_list_is_narrowed_by_state_and_model(http: httpx.Client, served: Served) -> None:
    job_id = waiting_job(served, model="mill/rare & odd", name="The rare one")
    assert "The rare one" in http.get("/", params={"state": "queued", "model": "mill/rare & odd"}).text
    assert "The rare one" not in http.get("/", params={"state": "completed"}).text
    assert f"/jobs/{job_id}" in http.get("/").text
    assert "Nothing here" in http.get("/", params={"model": "mill/never"}).text


def test_expired_jobs_and_those_that_take_parts_have_filters_of_their_own(http: httpx.Client, served: Served) -> None:
    # Given a job whose time is over, and one that takes its texts in parts
    stores, expired = served.service.stores, new_id()
    asked = NewJob(expired, "mill/not-served", None, None, JobOptions().to_dict(), name="Too late", expires_in=0.001)
    assert stores.jobs.accept(asked, [chunk(0)]) is not None
    until(lambda: stores.jobs.expire() or stores.jobs.get(expired).state == "expired", "the end of its time")
    parted = http.post("/v1/jobs", json={"parts": True, "name": "Part by part"}).json()["id"]
    # Then each is under its own filter, and no other
    for state, name in (("expired", "Too late"), ("accepting", "Part by part")):
        for other in ("expired", "accepting", "failed", "queued"):
            assert (name in http.get("/", params={"state": other}).text) == (other == state), (name, other)
        assert f'href="/?state={state}"' in http.get("/").text
    # And the one that takes parts has a page
    assert http.get(f"/jobs/{parted}").status_code == 200
    http.delete(f"/v1/jobs/{parted}")
