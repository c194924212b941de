"""Signing in with a key: in a real browser, and by those who try without."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from producer.api.sessions import COOKIE
from storage.contract.ids import new_id
from tests.service.page.conftest import window
from tests.service.serving import Served

SignIn = Callable[..., httpx.Client]


@pytest.fixture
def sign_in(keyed: Served) -> Iterator[SignIn]:
    """Signs in over HTTP with a key that is made for it."""
    opened: list[httpx.Client] = []

    def signed_in(name: str, *scopes: str) -> httpx.Client:
        _, key = keyed.service.stores.keys.create(name, scopes or ("read", "write", "embed"))
        opened.append(keyed.http())
        answer = opened[-1].post("/signin", data={"key": key})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        return opened[-1]

    yield signed_in
    for client in opened:
        client.close()


def test_one_signs_in_with_the_key_works_and_signs_out(browser: Browser, keyed: Served) -> None:
    # Given a key, and a page that asks for one
    _, key = keyed.service.stores.keys.create("The miller's <b>own</b>", ("read", "write", "embed"))
    with window(browser, keyed) as page:
        page.goto("/tokens?text=rye")
        expect(page).to_have_title("Sign in · Embedmill")
        # When it is pasted
        page.get_by_label("API key").fill(f" {key} ")
        page.keyboard.press("Enter")
        # Then the page that was asked for is shown, by name
        page.wait_for_url("**/tokens?text=rye")
        expect(page.get_by_text("The miller's <b>own</b>")).to_be_visible()
        # And jobs are submitted, watched and downloaded with the session alone
        page.goto("/")
        page.get_by_label("Texts, one on each line").fill("wheat")
        page.get_by_role("button", name="Submit").click()
        page.wait_for_url("**/jobs/*")
        expect(page.locator("#head .badge")).to_have_text("completed")
        with page.expect_download() as download:
            page.get_by_role("link", name=re.compile(r"\.jsonl")).click()
        assert download.value.failure() is None
        # When one signs out, then nothing is left of it
        page.get_by_role("button", name="Sign out").click()
        expect(page).to_have_title("Sign in · Embedmill")
        assert page.context.cookies() == []


def test_a_wrong_key_is_told_plainly(browser: Browser, keyed: Served) -> None:
    with _unlistened(browser, keyed) as page:
        page.goto("/signin")
        page.get_by_label("API key").fill("em_wrong_key")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_have_text("This key is not known here, or it was revoked or has expired.")
        assert "em_wrong_key" not in page.content()


def test_the_session_is_the_cookie_alone_and_ends_with_its_key(keyed: Served, sign_in: SignIn) -> None:
    # Given a session
    http = sign_in("short-lived")
    cookie = next(one for one in http.cookies.jar if one.name == COOKIE)
    key_id = str(cookie.value).split(".")[0]
    assert keyed.service.stores.keys.get(key_id).name == "short-lived"
    assert http.get("/").status_code == http.get("/v1/jobs").status_code == 200
    # When its key is revoked
    keyed.service.stores.keys.revoke(key_id)
    # Then it is over at once, for pages and for downloads
    assert http.get("/").headers["location"] == "/signin?next=/"
    assert http.get("/v1/jobs").status_code == 401


@pytest.mark.parametrize(("spoken", "is_bound"), [("https", True), ("https, http", True), ("http", False), ("", False)])
def test_where_tls_ends_before_the_service_the_cookie_travels_by_tls_alone(
    keyed: Served, spoken: str, is_bound: bool
) -> None:
    # Given a good key, and what a proxy says of how the browser speaks
    _, key = keyed.service.stores.keys.create("behind a proxy")
    with keyed.http() as http:
        # When one signs in, then the cookie is bound to TLS where the browser speaks it
        answer = http.post("/signin", data={"key": key}, headers={"X-Forwarded-Proto": spoken} if spoken else {})
        assert answer.status_code == 303 and ("; Secure" in answer.headers["set-cookie"]) is is_bound


def test_a_session_cannot_be_forged_stretched_or_handed_on(keyed: Served, sign_in: SignIn) -> None:
    value = str(next(one for one in sign_in("honest").cookies.jar if one.name == COOKIE).value)
    key_id, ends, signature = value.split(".")
    other, _ = keyed.service.stores.keys.create("other")
    forged = (
        "",
        "..",
        f"{key_id}.{ends}",
        f"{key_id}.{int(ends) + 1}.{signature}",
        f"{other.id}.{ends}.{signature}",
        f"{key_id}.{ends}.{signature[:-1]}{'0' if signature[-1] != '0' else '1'}",
        f"{key_id}.later.{signature}",
    )
    with keyed.http() as http:
        for cookie in forged:
            assert http.get("/v1/jobs", headers={"Cookie": f"{COOKIE}={cookie}"}).status_code == 401, cookie
            assert http.get("/", headers={"Cookie": f"{COOKIE}={cookie}"}).status_code == 303, cookie


def test_a_session_alone_changes_nothing(keyed: Served, sign_in: SignIn) -> None:
    # Given somebody who has signed in, and another's form
    http, other = sign_in("victim"), sign_in("attacker")
    token = re.search(r'name="token" value="([0-9a-f]+)"', other.get("/").text)
    assert token
    # When the native routes are called with the cookie, or the page's with no token or with a stranger's
    job = {"texts": ["rye"]}
    assert http.post("/v1/jobs", json=job).status_code == 401
    assert http.delete(f"/v1/jobs/{new_id()}").status_code == 401
    for fields in ({}, {"token": token[1]}):
        assert http.post("/jobs", data={"texts": "rye"} | fields).status_code == 403
        assert http.post("/signout", data=fields).status_code == 403
    # Then no job of his is there
    assert http.get("/v1/jobs").json()["data"] == []


def test_a_key_sees_its_own_jobs_alone_and_what_it_may_not_do_is_hidden(keyed: Served, sign_in: SignIn) -> None:
    # Given a job of one key
    mine, other, reader = sign_in("mine"), sign_in("other"), sign_in("reader", "read")
    token = re.search(r'name="token" value="([0-9a-f]+)"', mine.get("/").text)
    assert token
    place = mine.post("/jobs", data={"texts": "rye", "name": "Only mine", "token": token[1]}).headers["location"]
    assert "Only mine" in mine.get("/").text
    # When another key asks for it, then as for one that is not there
    unknown = f"/jobs/{new_id()}"
    assert other.get(place).status_code == other.get(unknown).status_code == 404
    assert other.get(place).text.replace(place[6:], "ID") == other.get(unknown).text.replace(unknown[6:], "ID")
    assert "Only mine" not in other.get("/").text
    # And a key that may only read is shown no form, and can send none
    page = reader.get("/").text
    assert "New job" not in page
    token = re.search(r'name="token" value="([0-9a-f]+)"', page)
    assert token
    assert reader.post("/jobs", data={"texts": "rye", "token": token[1]}).status_code == 403
    assert reader.get("/tokens").status_code == 403


def test_after_signing_in_one_stays_here(keyed: Served) -> None:
    _, key = keyed.service.stores.keys.create("traveller")
    with keyed.http() as http:
        for place in (
            "//elsewhere.example",
            "/\\elsewhere.example",
            "https://elsewhere.example",
            "/\t/elsewhere.example",
        ):
            answer = http.post("/signin", data={"key": key, "next": place})
            assert (answer.status_code, answer.headers["location"]) == (303, "/"), place
        assert http.post("/signin", data={"key": key, "next": "/jobs/1?x=2"}).headers["location"] == "/jobs/1?x=2"
        attributes = answer.headers["set-cookie"].lower()
        assert "httponly" in attributes and "samesite=strict" in attributes
        assert http.post("/signin", data={"key": key}, headers={"Origin": "https://else.where"}).status_code == 403
        assert http.post("/signin", data={"key": key}, headers={"Origin": "http://["}).status_code == 403


def _unlistened(browser: Browser, served: Served) -> _Unlistened:
    return _Unlistened(browser, served)


class _Unlistened:
    """A window in which an answer that refuses, which a browser tells on its console, is no error."""

    def __init__(self, browser: Browser, served: Served) -> None:
        self._context = browser.new_context(base_url=served.url)

    def __enter__(self) -> Page:
        return self._context.new_page()

    def __exit__(self, *_: object) -> None:
        self._context.close()
