"""Results: pages while a job runs, whole files that can be resumed, one item by its id."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import Response as PlainResponse

from producer.api.auth import Reader
from producer.api.documented import failures
from producer.api.native import JobId
from producer.api.schemas import ItemPage, ItemView
from producer.api.service import Service, ServiceDep
from producer.api.views import found
from producer.exports import item_json
from producer.job import Job
from storage.contract.errors import NotFound
from storage.contract.states import FINAL_JOB_STATES
from storage.outcomes import Outcome

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["results"])

Encoding = Annotated[
    Literal["float", "base64"], Query(description="Vectors as numbers, or as base64 of little-endian float32.")
]
Status = Annotated[Literal["succeeded", "failed", "cancelled"] | None, Query(description="Only items of this status.")]

#: Largest position that is asked about; what both databases can compare.
_LAST = 2**62


@router.get(
    "/results",
    operation_id="get_results",
    summary="Read results, page by page while the job runs",
    response_class=Response,
    responses={200: {"model": ItemPage, "description": "Some items."}, **failures(404)},
)
def get_results(
    service: ServiceDep,
    caller: Reader,
    job_id: JobId,
    after: Annotated[int, Query(ge=0, le=_LAST, description="Position of the first item that is wanted.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many items.")] = 100,
    status: Status = None,
    encoding: Encoding = "float",
) -> Response:
    """Return items in submission order; a page ends before the first item that is pending, `next` is where to go on."""
    job = found(service, caller, job_id)
    # The state is read first: what is read after the end is complete.
    record = job.record()
    ended = record.state in FINAL_JOB_STATES
    items: list[str] = []
    following: int | None = after
    for outcome in _outcomes(service, job, after, status):
        if outcome.status == "pending" and not ended:
            following = outcome.position
            break
        if len(items) == limit:
            following = outcome.position
            break
        if status is None or outcome.status == status:
            items.append(item_json(outcome, encoding))
        following = outcome.position + 1
    else:
        following = None if ended else max(after, following or 0)
    tail = f'"next": {"null" if following is None else following}, "state": "{record.state}"'
    body = f'{{"data": [{", ".join(items)}], {tail}, "generation": {record.generation}}}'
    return PlainResponse(body, media_type="application/json")


@router.get(
    "/items",
    operation_id="get_item_at",
    summary="One item by its position",
    response_class=Response,
    responses={200: {"model": ItemView, "description": "The item."}, **failures(404)},
)
def get_item_at(
    service: ServiceDep,
    caller: Reader,
    job_id: JobId,
    position: Annotated[int, Query(ge=0, le=_LAST, description="Its place in the job, from 0.")],
    encoding: Encoding = "float",
) -> Response:
    """Return what is known of an item now."""
    job = found(service, caller, job_id)
    page = service.stores.results.page_at(job.id, position)
    outcomes = page.outcomes() if page is not None else []
    return _item([outcome for outcome in outcomes if outcome.position == position], encoding)


@router.get(
    "/items/{custom_id:path}",
    operation_id="get_item",
    summary="One item by your own id",
    response_class=Response,
    responses={200: {"model": ItemView, "description": "The item."}, **failures(404)},
)
def get_item(
    service: ServiceDep,
    caller: Reader,
    job_id: JobId,
    custom_id: Annotated[str, Path(description="The id it was submitted with; may hold slashes.")],
    encoding: Encoding = "float",
) -> Response:
    """Return what is known of an item now."""
    job = found(service, caller, job_id)
    page = service.stores.results.find(job.id, custom_id)
    outcomes = page.outcomes() if page is not None else []
    return _item([outcome for outcome in outcomes if outcome.id == custom_id], encoding)


def _item(outcomes: list[Outcome], encoding: str) -> Response:
    if not outcomes:
        raise NotFound("The job has no such item.", "Positions count from 0; ids are those it was submitted with.")
    return PlainResponse(item_json(outcomes[0], encoding), media_type="application/json")


def _outcomes(service: Service, job: Job, first: int, status: str | None) -> Iterator[Outcome]:
    """Yield outcomes from a position on; chunks without any of a status are passed over."""
    while page := service.stores.results.page_at(job.id, first, status):
        for outcome in page.outcomes():
            if outcome.position >= first:
                yield outcome
        first = page.first + page.size
