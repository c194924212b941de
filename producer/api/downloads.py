"""Answers that are files: whole, in part, or only their headers."""

from __future__ import annotations

from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.requests import Request

from producer.api.ranges import is_had, part, wants_part
from producer.api.resultfiles import MEDIA_TYPES, ResultFile


def file_answer(request: Request, file: ResultFile) -> Response:
    """Return a result file as a request wants it.

    Args:
        request: Says by its headers what the client has already.
        file: What is wanted.

    Raises:
        HTTPException: 416 when a range begins behind the end.
        StorageFull: When there is no room for a file that must be made first.
    """
    headers = {"ETag": file.etag, "Accept-Ranges": "bytes", "Cache-Control": "private, no-cache"}
    if is_had(request.headers, file.etag):
        return Response(status_code=304, headers=headers)
    headers |= {"Content-Disposition": f'attachment; filename="{file.name}"', "Content-Type": MEDIA_TYPES[file.format]}
    if request.method == "HEAD":
        known = file.known_size()
        answer = Response(headers=headers | {"Content-Length": str(known)})
        if known is None:
            # Said of a file that is yet to be made, nought would be a lie.
            del answer.headers["Content-Length"]
        return answer
    in_part = wants_part(request.headers, file.etag)
    made = None if file.format in ("npy", "jsonl") else file.made()
    try:
        size = made.size if made is not None else file.size() if in_part else file.known_size()
        start, stop = part(request.headers, size) if in_part and size is not None else (0, size)
    except BaseException:
        if made is not None:
            made.close()
        raise
    if stop is not None:
        headers["Content-Length"] = str(stop - start)
    if in_part:
        headers["Content-Range"] = f"bytes {start}-{(stop or 1) - 1}/{size}"
    blocks = file.blocks(start, stop) if made is None else made.blocks(start, stop or 0)
    return StreamingResponse(blocks, 206 if in_part else 200, headers)
