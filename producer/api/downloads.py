"""Answers that are files: whole, in part, or only their headers."""

from __future__ import annotations

from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.requests import Request

from producer.api.held import Held
from producer.api.ranges import is_had, part, wants_part
from producer.api.resultfiles import MEDIA_TYPES, ResultFile
from producer.api.shares import Shares

#: Bytes a second at which a file that was made is read at least, once so many seconds are over: it takes up the disk,
#: and one of few places, until it was read.
_SLOWEST, _PATIENCE = 100_000, 120.0

#: Formats whose bytes are found one by one, where the others are made in a file first.
_UNMADE = ("npy", "jsonl")


def file_answer(request: Request, file: ResultFile, places: Shares, key_id: str) -> Response:
    """Return a result file as a request wants it.

    Args:
        request: Says by its headers what the client has already.
        file: What is wanted.
        places: Those of files that must be made first.
        key_id: Who wants it; empty where no keys are used.

    Raises:
        HTTPException: 416 when a range begins behind the end.
        StorageFull: When there is no room for a file that must be made first.
        Overloaded: When too many such are made, or being read.
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
    if file.format not in _UNMADE:
        return _made(request, file, headers, places, key_id)
    in_part = wants_part(request.headers, file.etag)
    size = file.size() if in_part else file.known_size()
    start, stop = part(request.headers, size) if in_part and size is not None else (0, size)
    if stop is not None:
        headers["Content-Length"] = str(stop - start)
    if in_part:
        headers["Content-Range"] = f"bytes {start}-{(stop or 1) - 1}/{size}"
    return StreamingResponse(file.blocks(start, stop), 206 if in_part else 200, headers)


def _made(request: Request, file: ResultFile, headers: dict[str, str], places: Shares, key_id: str) -> Response:
    """Return a file that must be made; it has a place until it was read."""
    places.take(key_id)
    try:
        made = file.made()
    except BaseException:
        places.leave(key_id)
        raise

    def leave() -> None:
        made.close()
        places.leave(key_id)

    try:
        in_part = wants_part(request.headers, file.etag)
        start, stop = part(request.headers, made.size) if in_part else (0, made.size)
    except BaseException:
        leave()
        raise
    headers["Content-Length"] = str(stop - start)
    if in_part:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{made.size}"
    seconds = _PATIENCE + (stop - start) / _SLOWEST
    return Held(made.blocks(start, stop), leave, seconds, headers, 206 if in_part else 200)
