"""The page's own style, script and mark: read once, named by their content, so that a browser may keep them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import Response

from storage.contract.errors import NotFound

router = APIRouter(include_in_schema=False)

_FOLDER = Path(__file__).with_name("static")
_KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_ASSETS = {file.name: file.read_bytes() for file in sorted(_FOLDER.iterdir()) if file.suffix in _KINDS}


def asset_url(name: str) -> str:
    """Return the path of an asset; it changes with the content.

    Args:
        name: Its file's name.
    """
    return f"/static/{name}?v={hashlib.sha256(_ASSETS[name]).hexdigest()[:12]}"


@router.get("/static/{name}")
def asset(name: str) -> Response:
    """Return one asset.

    Raises:
        NotFound: When there is none of that name.
    """
    if name not in _ASSETS:
        raise NotFound("There is no such asset.")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return Response(_ASSETS[name], media_type=_KINDS[Path(name).suffix], headers=headers)
