"""How large the body of a request may be, by what it is for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Scope

from producer.api.bodies import NDJSON
from producer.api.settings import ApiSettings
from producer.jsonsizes import JSONSize

#: Deepest nesting of JSON; none of our routes needs more than a handful.
_DEEPEST = 64

#: Most values and named values of JSON; no route but these needs as many. Token ids are refused in words of their own.
_USUAL = JSONSize(_DEEPEST, 250_000, 1_000)
_OF_IDS = JSONSize(_DEEPEST, 1_100_000, 1_000)

#: Largest form of the page that has no texts in it, in bytes.
_SMALL_FORM = 20_000

#: Most bytes of all fields of a form together, its file aside: they are kept in memory.
FORM_FIELDS = 2_000_000


@dataclass(frozen=True, slots=True)
class BodyKind:
    """How a body is taken.

    Args:
        most: Most bytes; None: any number.
        whole: Whether it is JSON that is read before its route is called; else its route gets it as it comes.
        json: How much there may be in it where it is read as a whole.
    """

    most: int | None
    whole: bool
    json: JSONSize = _USUAL


class BodyKinds:
    """Tells which kind a request's body is.

    Args:
        settings: Say what is allowed.
    """

    def __init__(self, settings: ApiSettings) -> None:
        whole = BodyKind(settings.max_body_bytes, whole=True)
        ids = BodyKind(settings.max_body_bytes, whole=True, json=_OF_IDS)
        # An item has two named values. One text too many is told by the route, in better words.
        most = JSONSize(_DEEPEST, 4 * settings.max_items + 10_000, 2 * settings.max_items + 10_000)
        texts = BodyKind(settings.max_body_bytes, whole=True, json=most)
        # A form is read once it is known who sends it.
        small_form = BodyKind(min(_SMALL_FORM, settings.max_body_bytes), whole=False)
        form = BodyKind(min(FORM_FIELDS, settings.max_body_bytes), whole=False)
        # Beside what it carries, a form has a few lines of its own.
        part = BodyKind(settings.max_part_bytes + 100_000, whole=False)
        stream = BodyKind(None, whole=False)
        self._otherwise = whole
        #: Method, path, media type, kind; the first that fits counts.
        self._table = tuple(
            (method, re.compile(path), media, kind)
            for method, path, media, kind in (
                *(("POST", "/v1/jobs", lines, stream) for lines in NDJSON),
                ("POST", "/v1/jobs", "", texts),
                ("PUT", "/v1/jobs/[^/]+/parts/[^/]+", "", part),
                ("POST", "/v1/files", "", part),
                ("POST", "/v1/uploads/[^/]+/parts", "", part),
                ("POST", "/decode", "", ids),
                ("POST", "/jobs", "multipart/form-data", part),
                ("POST", "/jobs", "", form),
                ("POST", "/(signin|signout|jobs/[^/]+/[^/]+)", "", small_form),
            )
        )

    def kind_of(self, scope: Scope) -> BodyKind:
        """Return the kind of a request's body."""
        media = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
        for method, path, wanted, kind in self._table:
            if scope["method"] == method and wanted in ("", media) and path.fullmatch(scope["path"]):
                return kind
        return self._otherwise
