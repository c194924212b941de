"""`/v1/files`: files of batches, in and out."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import ValidationError

from producer.api.auth import Reader, Writer
from producer.api.documented import linked
from producer.api.multipart import Form
from producer.api.openai.multipart import receive
from producer.api.openai.schemas import ExpiresAfter, FileDeleted, FileList, FileObject, errors
from producer.api.service import ServiceDep
from storage.contract.errors import InvalidField, NotFound
from storage.files import StoredFile

router = APIRouter(tags=["OpenAI"])

_ID = re.compile(r"file-[0-9a-f]{32}")

_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "JSON lines, one request a line."},
        "purpose": {"type": "string", "enum": ["batch"]},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2592000},
    },
    "dependentRequired": {
        "expires_after[anchor]": ["expires_after[seconds]"],
        "expires_after[seconds]": ["expires_after[anchor]"],
    },
}


_MADE = linked(200, "file_id", "get_file", "get_file_content", "delete_file")
_MADE[200]["links"]["create_batch"] = {
    "operationId": "create_batch",
    "requestBody": {"input_file_id": "$response.body#/id", "endpoint": "/v1/embeddings", "completion_window": "24h"},
}


@router.post(
    "/v1/files",
    summary="Upload a file",
    operation_id="create_file",
    response_model=FileObject,
    responses=_MADE | errors(),
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}},
)
async def create_file(request: Request, service: ServiceDep, caller: Writer) -> FileObject:
    """Keep a file of requests for a batch; it is read while it arrives."""
    files = service.stores.files
    form, writer = await receive(
        request, "file", service.settings.max_file_bytes, lambda: files.open("", "batch", caller.key_id)
    )
    try:
        life = _checked(form)
        await asyncio.to_thread(writer.close, form.filename, life)
    except BaseException:
        await asyncio.to_thread(writer.discard)
        raise
    return file_object(await asyncio.to_thread(files.get, writer.id))


@router.get("/v1/files", summary="List files", operation_id="list_files", responses=errors(404))
def list_files(
    service: ServiceDep,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    after: Annotated[str | None, Query(max_length=64)] = None,
    order: Literal["asc", "desc"] = "desc",
    purpose: Annotated[str | None, Query(max_length=32)] = None,
) -> FileList:
    """List the caller's files; `after` is the last id of the page before."""
    if purpose is not None and purpose not in ("batch", "batch_output"):
        return FileList(data=[], first_id=None, last_id=None, has_more=False)
    found = service.stores.files.page(
        limit + 1,
        after=None if after is None else _checked_id(after),
        newest_first=order == "desc",
        purpose=purpose,
        sees=caller.sees,
    )
    data = [file_object(file) for file in found[:limit]]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return FileList(data=data, first_id=first, last_id=last, has_more=len(found) > limit)


@router.get("/v1/files/{file_id}", summary="Show a file", operation_id="get_file", responses=errors(404))
def get_file(file_id: str, service: ServiceDep, caller: Reader) -> FileObject:
    """Show what is known of a file."""
    return file_object(service.stores.files.get(_checked_id(file_id), caller.sees))


@router.delete("/v1/files/{file_id}", summary="Delete a file", operation_id="delete_file", responses=errors(404, 409))
def delete_file(file_id: str, service: ServiceDep, caller: Writer) -> FileDeleted:
    """Delete a file; one that a batch is reading just now stays."""
    service.stores.files.delete(_checked_id(file_id), caller.sees)
    return FileDeleted(id=file_id)


_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file.", "content": {"application/octet-stream": {"schema": {"type": "string"}}}}
}


@router.get(
    "/v1/files/{file_id}/content",
    summary="Download a file",
    operation_id="get_file_content",
    response_class=Response,
    responses=_CONTENT | errors(404),
)
def get_file_content(file_id: str, service: ServiceDep, caller: Reader) -> StreamingResponse:
    """Send the bytes of a file, block by block."""
    file = service.stores.files.get(_checked_id(file_id), caller.sees)
    headers = {
        "Content-Length": str(file.size),
        "Content-Disposition": f"attachment; filename*=utf-8''{quote(file.filename, safe='')}",
    }
    return StreamingResponse(service.stores.files.content(file), media_type="application/octet-stream", headers=headers)


def file_object(file: StoredFile) -> FileObject:
    """Return a file as OpenAI's dialect shows it."""
    return FileObject(
        id=file.id,
        bytes=file.size,
        created_at=file.created_at // 1000,
        expires_at=None if file.expires_at is None else file.expires_at // 1000,
        filename=file.filename,
        purpose="batch" if file.purpose == "batch" else "batch_output",
        sha256=file.sha256,
    )


def _checked(form: Form) -> int | None:
    """Check the fields beside the file; return the seconds that it is kept."""
    purpose = form.fields.get("purpose")
    if purpose is None:
        raise InvalidField("purpose", "purpose is missing.", "Give purpose=batch.")
    if purpose != "batch":
        raise InvalidField("purpose", "Only files of the purpose batch are kept.", "Give purpose=batch.")
    given = {
        name: form.fields[f"expires_after[{name}]"]
        for name in ("anchor", "seconds")
        if f"expires_after[{name}]" in form.fields
    }
    if not given:
        return None
    try:
        return ExpiresAfter.model_validate(given).seconds
    except ValidationError:
        raise InvalidField(
            "expires_after", "expires_after needs the anchor created_at and 3600 to 2592000 seconds."
        ) from None


def _checked_id(file_id: str) -> str:
    if not _ID.fullmatch(file_id):
        raise NotFound("There is no such file.", "GET /v1/files lists those that are kept.")
    return file_id
