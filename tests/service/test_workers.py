"""Workers, models and what waits, as JSON and as a page."""

from __future__ import annotations

from typing import Any

import httpx

from storage.releases import HERE
from tests.acceptance.shell import until

THIS = (HERE.version, HERE.schema)


def test_the_worker_of_the_stack_is_shown_with_its_model(http: httpx.Client) -> None:
    # When one asks who works
    seen = http.get("/v1/workers").json()
    # Then the one worker is there, and the model that it serves
    (worker,) = seen["workers"]
    (model,) = [one for one in seen["models"] if one["workers"]]
    assert worker["model_id"] == model["id"]
    assert model["width"] == 384
    assert set(seen["queued"]) == {"chunks", "texts", "tokens"}
    # And the page shows the same
    assert worker["device"] in http.get("/workers").text
    # And both tell their version, which is this one
    assert (worker["version"], worker["schema_version"]) == (seen["version"], seen["schema_version"]) == THIS
    assert {(one["version"], one["schema_version"]) for one in seen["services"]} == {THIS}


def test_a_worker_tells_how_it_is_with_its_heartbeat(http: httpx.Client) -> None:
    # Given work
    assert len(http.post("/v1/embeddings", json={"input": ["rye and wheat"] * 8}).json()["data"]) == 8

    # When some heartbeats have come
    def told() -> dict[str, Any] | None:
        (worker,) = http.get("/v1/workers").json()["workers"]
        return worker if worker["batch_fill"] else None

    seen: list[dict[str, Any]] = []
    until(lambda: seen.extend(filter(None, [told()])) or seen, "a heartbeat that tells of batches", 60)
    worker = seen[0]
    # Then its rate, its batches and its memory are known, and it speaks of no GPU
    assert worker["tokens_per_second"] >= 0 and 0 < worker["batch_fill"] <= 1 and 0 <= worker["padding_share"] < 1
    assert worker["memory_bytes"] > 2**26 and worker["gpu_memory_bytes"] is None
    # And the page shows it
    page = http.get("/workers").text
    assert "Batches full" in page and "iB</td>" in page and "GPU memory" not in page
