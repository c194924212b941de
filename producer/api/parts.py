"""Jobs that are submitted part by part and sealed, so that a cut connection costs one part."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
