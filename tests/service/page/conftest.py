"""One real browser for all tests of the page; each test's own window tells of every error and every stray request."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.service.serving import Served

Visit = Callable[..., Page]

#: Longest that anything on a page may take, in milliseconds; a busy machine takes its time.
PATIENCE = 60_000

#: Longest start of the browser, in milliseconds; once a file, and the coldest of all that is done.
_LAUNCH = 90_000


# One a file, not one for all: while Playwright's own event loop runs, no test of another file could run one. ("package"
# would be the whole session here, as folders of tests are no packages.)
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A running Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Chromium")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        # Processes of its own are more than a small machine has room for.
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"], timeout=_LAUNCH
        )
        yield browser
        browser.close()


@contextmanager
def window(browser: Browser, served: Served, **options: Any) -> Iterator[Page]:
    """Open a window, which must have seen no error, no question and no request elsewhere when it is closed."""
    context = browser.new_context(base_url=served.url, **options)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    seen: list[str] = []
    page.on("console", lambda message: seen.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("dialog", lambda dialog: (seen.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    context.on("request", lambda sent: None if sent.url.startswith((served.url, "data:")) else seen.append(sent.url))
    yield page
    context.close()
    assert seen == []


@pytest.fixture
def visit(browser: Browser, served: Served) -> Iterator[Visit]:
    """Opens a page of `served` in a window of its own; answers that refuse are told by the tests that want them."""
    with ExitStack() as windows:

        def open_page(path: str = "/", **options: Any) -> Page:
            page = windows.enter_context(window(browser, served, **options))
            page.goto(path)
            return page

        yield open_page
