"""Health: `/healthz` (it runs), `/readyz` (it can serve), and `/metrics`."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
