"""`/v1/models`: what is served."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
