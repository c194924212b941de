"""Results: pages while a job runs, whole files that can be resumed, one item by its id."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import Response as PlainResponse
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request

from producer.anyjob import LAST_POSITION
from producer.api.auth import Reader
from producer.api.documented import failures
from producer.api.downloads import file_answer
from producer.api.native import JobId
from producer.api.resultfiles import MEDIA_TYPES, ResultFile
from producer.api.service import Service, ServiceDep
from producer.api.told import ItemFound, ItemPage
from producer.api.views import found
from producer.exports import item_json
from producer.job import Job
from storage.contract.errors import InvalidOption
from storage.contract.states import FINAL_JOB_STATES
from storage.outcomes import Outcome

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["results"])

Encoding = Annotated[
    Literal["float", "base64"], Query(description="Vectors as numbers, or as base64 of little-endian float32.")
]
Status = Annotated[Literal["succeeded", "failed", "cancelled"] | None, Query(description="Only items of this status.")]


class _Anything(Convertor[str]):
    """The rest of a path, line breaks too."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        """Return it as it is."""
        return value

    def to_string(self, value: str) -> str:
        """Return it as it is."""
        return value


register_url_convertor("anything", _Anything())


_FILES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ItemPage,
        "description": "Some items; with `format` the whole file.",
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES.values()},
    },
    206: {
        "description": "The bytes that were asked for with `Range`.",
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES.values()},
    },
    304: {"description": "You have it already, by `If-None-Match`."},
}


@router.head("/results", include_in_schema=False)
@router.get(
    "/results",
    operation_id="get_results",
    summary="Read results: page by page while the job runs, or as a file once it has ended",
    response_class=Response,
    responses={**_FILES, **failures(404, 409, 416, 507)},
)
def get_results(
    request: Request,
    service: ServiceDep,
    caller: Reader,
    job_id: JobId,
    format: Annotated[
        Literal["jsonl", "npy", "npz", "arrow", "parquet"] | None, Query(description="The whole file in this format.")
    ] = None,
    after: Annotated[int, Query(ge=0, le=LAST_POSITION, description="Position of the first item that is wanted.")] = 0,
    limit: Annotated[int | None, Query(ge=1, le=1000, description="At most so many items a page: 100.")] = None,
    status: Status = None,
    encoding: Encoding = "float",
) -> Response:
    """Return items in submission order.

    Without `format` a page, which ends before the first item that is pending; `next` is where to go on. With it the
    whole file, which can be resumed: by `Range` and `If-Range`, and jsonl by `after` too, without any search.
    """
    job = found(service, caller, job_id)
    if format is None:
        return _page(service, job, after, limit or 100, status, encoding)
    if status not in (None, "failed") or limit is not None or (after and format != "jsonl"):
        raise InvalidOption(
            "A file has all items, or with status=failed those that have no vector.", "Leave out limit and after."
        )
    file = ResultFile(job, format, status == "failed", encoding, after)
    return file_answer(request, file, service.made_files, caller.key_id)


@router.get(
    "/items",
    operation_id="get_item_at",
    summary="One item by its position, or by your own id",
    response_class=Response,
    responses={200: {"model": ItemFound, "description": "The item."}, **failures(404)},
)
def get_item_at(
    service: ServiceDep,
    caller: Reader,
    job_id: JobId,
    position: Annotated[int | None, Query(ge=0, le=LAST_POSITION, description="Its place in the job, from 0.")] = None,
    custom_id: Annotated[str | None, Query(description="The id it was submitted with, whatever it holds.")] = None,
    encoding: Encoding = "float",
) -> Response:
    """Return what is known of an item now; either `position` or `custom_id` says which one."""
    job = found(service, caller, job_id)
    if (position is None) == (custom_id is None):
        raise InvalidOption("Either position or custom_id says which item is meant.", "Give one of them.")
    return _item(job, job.item(position=position, id=custom_id), encoding)


@router.get(
    "/items/{custom_id:anything}",
    operation_id="get_item",
    summary="One item by your own id",
    response_class=Response,
    responses={200: {"model": ItemFound, "description": "The item."}, **failures(404)},
)
def get_item(
    service: ServiceDep,
    caller: Reader,
    job_id: JobId,
    custom_id: Annotated[str, Path(description="The id it was submitted with, percent-encoded; may hold slashes.")],
    encoding: Encoding = "float",
) -> Response:
    """Return what is known of an item now; programs that tidy paths up send the id as `?custom_id=` instead."""
    job = found(service, caller, job_id)
    return _item(job, job.item(id=custom_id), encoding)


def _page(service: Service, job: Job, after: int, limit: int, status: str | None, encoding: str) -> Response:
    # The state is read first: what is read after the end is complete.
    record = job.record()
    ended = record.state in FINAL_JOB_STATES
    items: list[str] = []
    following: int | None = after
    for outcome in _outcomes(service, job, after, status):
        following = outcome.position
        if (outcome.status == "pending" and not ended) or len(items) == limit:
            break
        if status is None or outcome.status == status:
            items.append(item_json(outcome, encoding))
        following += 1
    else:
        following = None if ended else following
    tail = f'"next": {"null" if following is None else following}, "state": "{record.state}"'
    tail += f', "generation": {record.generation}, "store_dtype": "{record.options["store_dtype"]}"'
    body = f'{{"data": [{", ".join(items)}], {tail}}}'
    return PlainResponse(body, media_type="application/json")


def _item(job: Job, outcome: Outcome, encoding: str) -> Response:
    item, dtype = item_json(outcome, encoding), job.record().options["store_dtype"]
    return PlainResponse(f'{item[:-1]}, "store_dtype": "{dtype}"}}', media_type="application/json")


def _outcomes(service: Service, job: Job, first: int, status: str | None) -> Iterator[Outcome]:
    """Yield outcomes from a position on; chunks without any of a status are passed over."""
    while page := service.stores.results.page_at(job.id, first, status):
        for outcome in page.outcomes():
            if outcome.position >= first:
                yield outcome
        first = page.first + page.size
