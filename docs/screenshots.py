"""Draws the pictures of the page in docs/: PYTHONPATH=. python docs/screenshots.py, with Chromium installed."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from producer.client import Client
from storage.contract.options import JobOptions
from tests.acceptance.shell import Shell, address, serving, until

_WORDS = """
the miller grinds wheat rye barley and oats between two stones while water turns the wheel under the old mill
embeddings place texts of alike meaning near each other so that a search finds what a word alone would miss
"""

_DESK, _PHONE = (1280, 860), (390, 844)
_TEXT = "/tokens?text=Unbelievably%20good%20watermills%20grind%20wheat%20and%20rye&max_length=11"


def main(folder: Path) -> None:
    """Start everything, submit a few jobs and draw each page.

    Args:
        folder: Where the pictures go.
    """
    with tempfile.TemporaryDirectory(prefix="em-") as name:
        place = Path(name)
        shell = Shell(place / "data", place)
        up = serving(shell, "up", "--port", 0, "--data-dir", place / "data", log=place / "log")
        with up, Client(data_dir=place / "data") as client, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            url = address(place / "log")
            _draw(browser, url, "light", _DESK, {folder / "page-empty.png": "/"})
            failing, moving = _submit(client)
            _draw(
                browser,
                url,
                "light",
                _DESK,
                {folder / "page-jobs.png": "/", folder / "page-job.png": f"/jobs/{moving}"}
                | {folder / "page-workers.png": "/workers", folder / "page-tokens.png": _TEXT}
                | {folder / "page-job-failed.png": f"/jobs/{failing}"},
            )
            dark = {folder / "page-job-dark.png": f"/jobs/{moving}", folder / "page-tokens-dark.png": _TEXT}
            _draw(browser, url, "dark", _DESK, {folder / "page-jobs-dark.png": "/"} | dark)
            phone = {folder / "page-job-phone.png": f"/jobs/{moving}", folder / "page-tokens-phone.png": _TEXT}
            _draw(browser, url, "light", _PHONE, {folder / "page-jobs-phone.png": "/"} | phone)
            client.job(moving).cancel()
            browser.close()


def _submit(client: Client) -> tuple[str, str]:
    """Submit jobs of all kinds; return one with failures and one that is under way."""
    chance = random.Random(7)

    def submit(name: str, texts: int, longest: int, **options: Any) -> str:
        words = [" ".join(chance.choices(_WORDS.split(), k=chance.randint(6, longest))) for _ in range(texts)]
        records = [(text, None, "", None) for text in words]
        return client.submit_records(records, with_ids=False, name=name, options=JobOptions.from_dict(options)).id

    names, questions = submit("Product names", 200, 12), submit("Questions of March", 300, 20)
    failing = submit("Abstracts, strict", 150, 90, on_long="error", max_length=96)
    for job_id in (names, questions, failing):
        client.job(job_id).wait(120)
    client.job(submit("Trial with cls", 1000, 60, pooling="cls")).cancel()
    moving = submit("Wikipedia, first paragraphs", 4000, 60)
    until(lambda: client.job(moving).status().succeeded > 2500, "the job to be well under way", 300)
    return failing, moving


def _draw(browser: Browser, url: str, scheme: Any, size: tuple[int, int], pages: dict[Path, str]) -> None:
    width, height = size
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
    page = context.new_page()
    for path, place in pages.items():
        page.goto(url + place)
        page.screenshot(path=path, full_page=True)
    context.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
