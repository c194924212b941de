"""`/v1/batches`: many requests in a file, done in the background."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Query

from producer.api.auth import Reader, Writer
from producer.api.documented import linked
from producer.api.openai.schemas import (
    BatchErrors,
    BatchList,
    BatchObject,
    BatchRequest,
    BatchUsage,
    RequestCounts,
    errors,
)
from producer.api.service import ServiceDep
from storage.batchrecords import Batch
from storage.contract.errors import InvalidField, NotFound, UnknownJob
from storage.contract.options import check_word
from storage.stores import Stores

router = APIRouter(tags=["OpenAI"])

_ID = re.compile(r"batch_[0-9a-f]{32}")

_MOMENTS = ("in_progress", "expires", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


@router.post(
    "/v1/batches",
    summary="Start a batch",
    operation_id="create_batch",
    responses=linked(200, "batch_id", "get_batch", "cancel_batch") | errors(404),
)
def create_batch(body: BatchRequest, service: ServiceDep, caller: Writer) -> BatchObject:
    """Take a file of requests to be done within some hours; it is read in the background."""
    hours = int(body.completion_window[:-1])
    _check_metadata(body.metadata)
    if not re.fullmatch(r"file-[0-9a-f]{32}", body.input_file_id):
        raise NotFound("There is no such file.", "GET /v1/files lists those that are kept.")
    file = service.stores.files.get(body.input_file_id, caller.sees)
    if file.purpose != "batch":
        raise InvalidField("input_file_id", "The file's purpose is not batch.", "Upload it with purpose=batch.")
    batch = service.stores.batches.create(
        file.id,
        body.endpoint,
        body.completion_window,
        hours * 3600,
        key_id=caller.key_id,
        labels=body.metadata,
        output_life=body.output_expires_after.seconds if body.output_expires_after else None,
    )
    service.batch_work.wake()
    return _object(service.stores, batch)


@router.get("/v1/batches", summary="List batches", operation_id="list_batches", responses=errors(404))
def list_batches(
    service: ServiceDep,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=64)] = None,
) -> BatchList:
    """List the caller's batches, newest first; `after` is the last id of the page before."""
    found = service.stores.batches.page(limit + 1, None if after is None else _checked(after), caller.sees)
    data = [_object(service.stores, batch) for batch in found[:limit]]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return BatchList(data=data, first_id=first, last_id=last, has_more=len(found) > limit)


@router.get("/v1/batches/{batch_id}", summary="Show a batch", operation_id="get_batch", responses=errors(404))
def get_batch(batch_id: str, service: ServiceDep, caller: Reader) -> BatchObject:
    """Show where a batch stands."""
    return _object(service.stores, service.stores.batches.get(_checked(batch_id), caller.sees))


@router.post(
    "/v1/batches/{batch_id}/cancel", summary="Cancel a batch", operation_id="cancel_batch", responses=errors(404, 409)
)
def cancel_batch(batch_id: str, service: ServiceDep, caller: Writer) -> BatchObject:
    """Cancel a batch; what was done by then stays in its output."""
    batch = service.stores.batches.cancel(_checked(batch_id), caller.sees)
    service.batch_work.wake()
    return _object(service.stores, batch)


def _check_metadata(metadata: dict[str, str] | None) -> None:
    for key, value in (metadata or {}).items():
        check_word("metadata", key)
        check_word("metadata", value)


def _checked(batch_id: str) -> str:
    if not _ID.fullmatch(batch_id):
        raise NotFound("There is no such batch.", "GET /v1/batches lists them.")
    return batch_id


def _object(stores: Stores, batch: Batch) -> BatchObject:
    ended = batch.state in ("completed", "failed", "expired", "cancelled")
    told: dict[str, Any] = {f"{moment}_at": _seconds(getattr(batch, f"{moment}_at")) for moment in _MOMENTS}
    told["status"] = "cancelling" if batch.cancelling_at is not None and not ended else batch.state
    return BatchObject(
        id=batch.id,
        endpoint=batch.endpoint,
        model=batch.model,
        errors=BatchErrors(data=batch.errors["data"]) if batch.errors else None,
        input_file_id=batch.input_file_id,
        completion_window=batch.completion_window,
        output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id,
        created_at=batch.created_at // 1000,
        request_counts=_counts(stores, batch, ended),
        usage=BatchUsage(input_tokens=batch.tokens, total_tokens=batch.tokens) if batch.tokens else None,
        metadata=batch.labels,
        **told,
    )


def _counts(stores: Stores, batch: Batch, ended: bool) -> RequestCounts:
    """Return the lines done: exactly at the end, before that as its jobs' items tell."""
    if ended or batch.state == "validating":
        return RequestCounts(total=batch.total, completed=batch.completed, failed=batch.failed)
    completed = failed = 0
    for group in stores.batches.groups(batch.id):
        if group.job_id is None:
            continue
        try:
            status = stores.statuses.get(group.job_id)
        except UnknownJob:
            continue
        # A line of several texts is done when all of them are: their share of the items is the nearest that is known.
        completed += status.succeeded * group.lines // group.items
        failed += status.failed * group.lines // group.items
    return RequestCounts(total=batch.total, completed=completed, failed=failed)


def _seconds(milliseconds: int | None) -> int | None:
    return None if milliseconds is None else milliseconds // 1000
