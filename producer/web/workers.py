"""The workers, the models and what waits."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from producer.api.service import ServiceDep
from producer.api.workers import overview
from producer.web.rendering import page
from producer.web.routes import PageRoute
from producer.web.visitors import VisitorDep
from storage.pulses import SILENT

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/workers")
def show(request: Request, service: ServiceDep, visitor: VisitorDep) -> Response:
    """Show who works on what, and what waits for whom."""
    visitor.caller.require("read")
    seen, model = overview(service), service.settings.model
    return page(request, "workers", visitor=visitor, overview=seen, silent=SILENT, model=model)
