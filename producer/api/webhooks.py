"""Webhooks: where a job's end is told to."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
