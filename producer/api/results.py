"""Results: pages while a job runs, whole files that can be resumed, one item by its id."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
