"""`/v1/files`: files of batches, in and out."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
