"""How large the body of a request may be, by what it is for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Scope

from producer.api.settings import ApiSettings


@dataclass(frozen=True, slots=True)
class BodyKind:
    """How a body is taken.

    Args:
        most: Most bytes; None: any number.
        whole: Whether it is read before its route is called; else its route gets it as it comes.
    """

    most: int | None
    whole: bool


class BodyKinds:
    """Tells which kind a request's body is.

    Args:
        settings: Say what is allowed.
    """

    def __init__(self, settings: ApiSettings) -> None:
        whole = BodyKind(settings.max_body_bytes, whole=True)
        # Beside what it carries, a form has a few lines of its own.
        part = BodyKind(settings.max_part_bytes + 100_000, whole=False)
        stream = BodyKind(None, whole=False)
        self._otherwise = whole
        #: Method, path, media type, kind; the first that fits counts.
        self._table = tuple(
            (method, re.compile(path), media, kind)
            for method, path, media, kind in (
                ("POST", "/v1/jobs", "application/x-ndjson", stream),
                ("PUT", "/v1/jobs/[^/]+/parts/[^/]+", "", part),
                ("POST", "/v1/files", "", part),
                ("POST", "/v1/uploads/[^/]+/parts", "", part),
                ("POST", ".*", "multipart/form-data", part),
            )
        )

    def kind_of(self, scope: Scope) -> BodyKind:
        """Return the kind of a request's body."""
        media = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
        for method, path, wanted, kind in self._table:
            if scope["method"] == method and wanted in ("", media) and path.fullmatch(scope["path"]):
                return kind
        return self._otherwise
