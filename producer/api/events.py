"""Server-sent events: where a job stands, as often as that changes."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
