"""Our own routes: submit jobs, list them, see where they stand, cancel, retry and delete them."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
