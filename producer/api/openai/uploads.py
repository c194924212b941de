"""`/v1/uploads`: large files in parts."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
