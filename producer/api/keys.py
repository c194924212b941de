"""Keys over HTTP, for an admin's key."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
