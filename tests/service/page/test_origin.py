"""Which forms count as sent by the page itself."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from producer.web.visitors import check_origin
from storage.contract.errors import Forbidden

OURS, THEIRS = "https://mill.example.com", "https://evil.example.com"


def request(**headers: str) -> Request:
    told = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/signin", "headers": told})


@pytest.mark.parametrize(
    "headers",
    [
        # A browser of today, behind a proxy that does not hand on the name it was called by
        {"origin": OURS, "host": "127.0.0.1:8000", "sec_fetch_site": "same-origin"},
        {"origin": OURS, "host": "mill.example.com"},
        {"host": "mill.example.com"},
    ],
)
def test_a_form_of_the_page_is_taken(headers: dict[str, str]) -> None:
    check_origin(request(**headers))


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": THEIRS, "host": "mill.example.com", "sec_fetch_site": "cross-site"},
        {"origin": THEIRS, "host": "mill.example.com", "sec_fetch_site": "same-site"},
        {"origin": THEIRS, "host": "mill.example.com"},
    ],
)
def test_a_form_of_another_site_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Forbidden):
        check_origin(request(**headers))
