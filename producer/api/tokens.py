"""The way from a text to token ids, made visible."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
