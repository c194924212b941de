"""`/v1/models`: what is served, or was and may be again."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from fastapi import APIRouter

from producer.api.auth import Reader
from producer.api.documented import linked
from producer.api.openai.schemas import ModelList, ModelObject, errors
from producer.api.service import ServiceDep
from storage.contract.errors import UnknownModel
from storage.contract.options import check_word
from storage.workers import Served

router = APIRouter(tags=["OpenAI"])


@router.get(
    "/v1/models",
    summary="List models",
    operation_id="list_models",
    responses=linked(200, "model", "get_model", field="data/0/id") | errors(),
)
def list_models(service: ServiceDep, caller: Reader) -> ModelList:
    """List every model that a worker serves or has served; `workers` says how many do so now."""
    by_name = groupby(service.stores.workers.cards(), key=lambda served: served.card.name)
    return ModelList(data=[_model(list(served)) for _, served in by_name])


@router.get("/v1/models/{model:path}", summary="Show a model", operation_id="get_model", responses=errors(404))
def get_model(model: str, service: ServiceDep, caller: Reader) -> ModelObject:
    """Show one model.

    Raises:
        UnknownModel: When no worker has ever served one of that name.
    """
    check_word("model", model)
    served = service.stores.workers.find(model)
    if not served:
        raise UnknownModel("There is no model of this name.", "GET /v1/models lists them.")
    return _model(served)


def _model(identities: Iterable[Served]) -> ModelObject:
    """Return one model of those that have a name in common: the one served now speaks for all."""
    known = sorted(identities, key=lambda served: served.workers == 0)
    card = known[0].card
    return ModelObject(
        id=card.name,
        created=min(served.first_seen for served in known) // 1000,
        owned_by="embedmill",
        dimensions=card.width,
        max_length=card.max_length,
        workers=sum(served.workers for served in known),
    )
