"""`/v1/uploads`: large files in parts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request

from producer.api.auth import Writer
from producer.api.documented import linked
from producer.api.openai.files import file_object
from producer.api.openai.multipart import receive
from producer.api.openai.schemas import UploadCompletion, UploadObject, UploadPart, UploadRequest, errors
from producer.api.service import ServiceDep
from storage.contract.errors import Conflict, InvalidField, NotFound, TooLarge
from storage.contract.options import check_word
from storage.stores import Stores
from storage.uploads import Upload

router = APIRouter(tags=["OpenAI"])

_ID = re.compile(r"upload_[0-9a-f]{32}")

_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["data"],
    "properties": {"data": {"type": "string", "format": "binary", "description": "At most as long as a part may be."}},
}

_ADDED: dict[int | str, dict[str, Any]] = {
    200: {
        "links": {
            "complete_upload": {
                "operationId": "complete_upload",
                "parameters": {"upload_id": "$response.body#/upload_id"},
                "requestBody": {"part_ids": ["$response.body#/id"]},
            }
        }
    }
}


@router.post(
    "/v1/uploads",
    summary="Begin an upload",
    operation_id="create_upload",
    responses=linked(200, "upload_id", "add_upload_part", "complete_upload", "cancel_upload") | errors(),
)
def create_upload(body: UploadRequest, service: ServiceDep, caller: Writer) -> UploadObject:
    """Announce a file that is then sent in parts, within an hour."""
    check_word("filename", body.filename)
    if body.bytes > service.settings.max_file_bytes:
        raise TooLarge(f"A file has at most {service.settings.max_file_bytes:,} bytes.", "Split it.")
    life = body.expires_after.seconds if body.expires_after else None
    upload = service.stores.uploads.create(body.filename, body.purpose, body.bytes, caller.key_id, life)
    return _object(service.stores, upload)


@router.post(
    "/v1/uploads/{upload_id}/parts",
    summary="Add a part",
    operation_id="add_upload_part",
    response_model=UploadPart,
    responses=_ADDED | errors(404, 409),
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}},
)
async def add_part(upload_id: str, request: Request, service: ServiceDep, caller: Writer) -> UploadPart:
    """Add one part; parts may come in any order, and several at a time."""
    stores = service.stores
    upload = await asyncio.to_thread(stores.uploads.pending, _checked(upload_id), caller.sees)
    received = await asyncio.to_thread(stores.uploads.received, upload.id)
    # A little more than was announced may lie there: parts that were sent twice.
    left = 2 * upload.size - received
    if left <= 0:
        raise TooLarge(
            "Twice as many bytes as were announced have been sent.", "Complete the upload, or cancel it and begin anew."
        )
    most = min(service.settings.max_part_bytes, left)
    _, writer = await receive(
        request, "data", most, lambda: stores.files.open("part", upload.purpose, upload.key_id, upload_id=upload.id)
    )
    try:
        await asyncio.to_thread(stores.uploads.pending, upload.id)
        await asyncio.to_thread(writer.close)
    except BaseException:
        await asyncio.to_thread(writer.discard)
        raise
    return UploadPart(
        id=writer.id, created_at=int(await asyncio.to_thread(stores.database.clock.now)), upload_id=upload.id
    )


@router.post(
    "/v1/uploads/{upload_id}/complete",
    summary="Complete an upload",
    operation_id="complete_upload",
    responses=errors(404, 409),
)
def complete_upload(upload_id: str, body: UploadCompletion, service: ServiceDep, caller: Writer) -> UploadObject:
    """Make a file of the parts, in the order given."""
    stores = service.stores
    known = stores.uploads.get(_checked(upload_id), caller.sees)
    if _was_made_of(stores, known, body.part_ids):
        return _object(stores, known)
    upload = stores.uploads.pending(known.id, caller.sees)
    try:
        file = stores.files.join(upload.id, body.part_ids, body.md5)
    except Conflict as error:
        raise InvalidField("part_ids", error.message, error.remedy) from None
    done = stores.uploads.get(upload.id)
    if file is None and not _was_made_of(stores, done, body.part_ids):
        raise Conflict("The upload was ended meanwhile.", "GET /v1/files shows whether there is a file.")
    return _object(stores, done)


@router.post(
    "/v1/uploads/{upload_id}/cancel",
    summary="Cancel an upload",
    operation_id="cancel_upload",
    responses=errors(404, 409),
)
def cancel_upload(upload_id: str, service: ServiceDep, caller: Writer) -> UploadObject:
    """End an upload; what was sent goes."""
    return _object(service.stores, service.stores.uploads.cancel(_checked(upload_id), caller.sees))


def _was_made_of(stores: Stores, upload: Upload, part_ids: Sequence[str]) -> bool:
    """Tell whether an upload was completed with these parts: whoever got no answer completes it again."""
    if upload.file_id is None:
        return False
    try:
        return list(stores.files.get(upload.file_id).parts) == list(part_ids)
    except NotFound:
        return False


def _object(stores: Stores, upload: Upload) -> UploadObject:
    file = None if upload.file_id is None else file_object(stores.files.get(upload.file_id))
    return UploadObject.model_validate(
        {
            "id": upload.id,
            "bytes": upload.size,
            "created_at": upload.created_at // 1000,
            "expires_at": upload.expires_at // 1000,
            "filename": upload.filename,
            "purpose": upload.purpose,
            "status": upload.state,
            "file": file,
        }
    )


def _checked(upload_id: str) -> str:
    if not _ID.fullmatch(upload_id):
        raise NotFound("There is no such upload.", "POST /v1/uploads begins one.")
    return upload_id
