"""What is remembered of models that are served: only that they are, and only for a moment."""

import time

import pytest

from producer.servedmodels import ServedModels
from storage.stores import Stores
from tests.storage.builders import CARD, MODEL, serve


def test_a_served_model_is_believed_in_for_a_moment_and_not_longer(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    models, worker = ServedModels(stores.workers), serve(stores)
    assert models.find(MODEL)[0].workers == 1
    stores.workers.leave(worker)
    now += 0.9
    assert models.find(MODEL)[0].workers == 1, "the moment is not over"
    assert models.find(MODEL, CARD.revision[:4])[0].workers == 0, "what was not asked for before is looked up"
    now += 0.2
    assert models.find(MODEL)[0].workers == 0


def test_a_model_that_nobody_serves_is_looked_up_every_time(stores: Stores) -> None:
    models = ServedModels(stores.workers)
    assert models.find(MODEL) == [] and models.names() == []
    worker = serve(stores)
    assert models.find(MODEL)[0].workers == 1 and models.names() == [MODEL]
    stores.workers.leave(worker)
    assert models.names() == []


def test_a_model_without_workers_is_not_remembered_either(stores: Stores) -> None:
    models = ServedModels(stores.workers)
    stores.workers.leave(serve(stores))
    assert models.find(MODEL)[0].workers == 0
    serve(stores)
    assert models.find(MODEL)[0].workers == 1
