"""Workers, models and what waits, as JSON and as a page."""

from __future__ import annotations

import httpx


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
