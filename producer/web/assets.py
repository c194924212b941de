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


_VERSIONS = {name: hashlib.sha256(content).hexdigest()[:12] for name, content in _ASSETS.items()}


def asset_url(name: str) -> str:
    """Return the path of an asset; it changes with the content.

    Args:
        name: Its file's name.
    """
    return f"/static/{name}?v={_VERSIONS[name]}"


@router.get("/static/{name}")
def asset(name: str, v: str = "") -> Response:
    """Return one asset; what is asked for as another version, while an upgrade goes on, is not to be kept as that one.

    Raises:
        NotFound: When there is none of that name.
    """
    if name not in _ASSETS:
        raise NotFound("There is no such asset.")
    kept = "public, max-age=31536000, immutable" if v == _VERSIONS[name] else "no-store"
    headers = {"Cache-Control": kept, "X-Content-Type-Options": "nosniff"}
    return Response(_ASSETS[name], media_type=_KINDS[Path(name).suffix], headers=headers)
