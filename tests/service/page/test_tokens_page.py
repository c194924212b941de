"""The token view: a text becomes pieces and a vector before one's eyes."""

from __future__ import annotations

import httpx
from playwright.sync_api import expect

from tests.service.page.conftest import Visit
from tests.service.page.test_jobs_page import SCRIPT, check_landmarks


def test_a_text_is_shown_in_pieces_with_what_is_cut_and_its_vector(visit: Visit) -> None:
    # Given the page, when a text is typed that has more pieces than are read
    page = visit("/tokens")
    page.get_by_label("Text", exact=True).fill("Unbelievably good watermills grind wheat")
    page.get_by_label("Most tokens").fill("8")
    page.get_by_role("button", name="Show").click()
    # Then its pieces are there with their ids, between those that mark begin and end
    pieces = page.locator(".piece")
    expect(pieces.first).to_have_text("[CLS]101")
    expect(pieces.last).to_have_text("[SEP]102")
    assert page.locator(".piece:not(.cut)").count() == 8
    # And what is cut is struck out, and the vector drawn
    assert page.locator(".piece.cut del").count() > 0
    assert page.locator(".strip rect").count() == 384
    check_landmarks(page)
    # And on a phone nothing is lost sideways
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_padding_is_shown_as_what_it_is(http: httpx.Client) -> None:
    padded = http.get("/tokens", params={"text": "rye", "max_length": "8", "padding": "max_length"}).text
    assert padded.count('class="piece padding"') == 5
    assert "3 ones, then 5 zeros" in padded
    assert "more of padding" in http.get("/tokens", params={"text": "rye", "padding": "max_length"}).text


def test_a_text_that_looks_like_a_script_is_shown_in_pieces_of_text(visit: Visit) -> None:
    page = visit("/tokens")
    page.get_by_label("Text", exact=True).fill(SCRIPT)
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_label("Text", exact=True)).to_have_value(SCRIPT)
    assert page.locator("main script, main img").count() == 0


def test_what_cannot_be_shown_is_told(http: httpx.Client) -> None:
    for asked, status in (
        ({"text": "rye", "max_length": "2"}, 400),
        ({"text": "rye", "max_length": "many"}, 400),
        ({"text": "rye", "padding": "wide"}, 400),
        ({"text": "rye", "model": "mill/nobody"}, 404),
        ({"text": "rye" * 2000}, 413),
    ):
        answer = http.get("/tokens", params=asked)
        assert answer.status_code == status, asked
        assert 'role="alert"' in answer.text
