"""Templates to HTML: everything that comes from outside is escaped, whatever the template says."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader

from producer import words
from producer.web.assets import asset_url
from producer.web.visitors import Visitor

#: The page is the visitor's own: no proxy keeps it, nobody frames it, and its forms' origin can be seen.
_HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "same-origin", "X-Frame-Options": "DENY"}

_environment = Environment(
    loader=PackageLoader("producer.web"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.globals["asset_url"] = asset_url
_WORDS = "number counted compact memory share rate duration ago clock took short_id short_model"
for _name in _WORDS.split():
    _environment.filters[_name] = getattr(words, _name)


def page(
    request: Request, name: str, *, visitor: Visitor | None = None, code: int = 200, **values: Any
) -> HTMLResponse:
    """Return a page.

    Args:
        request: Whose answer it is.
        name: The template, without its ending.
        visitor: Who looks at it; None before signing in.
        code: The HTTP status.
        **values: What the template shows.
    """
    known = {"path": request.url.path, "visitor": visitor, "here": name}
    text = _environment.get_template(f"{name}.html").render(known | values)
    return HTMLResponse(text, code, headers=_HEADERS)
