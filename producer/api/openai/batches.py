"""`/v1/batches`: many requests in a file, done in the background."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
