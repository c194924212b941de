"""Vectors are downloaded from the page of a job."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from tests.service.page.conftest import Visit
from tests.service.serving import Served


def test_vectors_and_failures_are_downloaded_from_the_page(visit: Visit, served: Served, tmp_path: Path) -> None:
    # Given an ended job with a failed item
    job = served.service.client.submit(["wheat", "", "barley"], on_invalid="keep")
    job.wait(60)
    page = visit(f"/jobs/{job.id}")
    # When each file is asked for
    for name in ("npy", "jsonl"):
        with page.expect_download() as download:
            page.get_by_role("link", name=re.compile(rf"\.{name}\b")).click()
        download.value.save_as(tmp_path / f"vectors.{name}")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download all of them").click()
    download.value.save_as(tmp_path / "failed.jsonl")
    # Then it holds the job's vectors, and its failures
    assert np.array_equal(np.load(tmp_path / "vectors.npy"), job.vectors(), equal_nan=True)
    lines = [json.loads(line) for line in (tmp_path / "vectors.jsonl").read_text().splitlines()]
    assert [line["status"] for line in lines] == ["succeeded", "failed", "succeeded"]
    assert len((tmp_path / "failed.jsonl").read_text().splitlines()) == 1
