"""`/v1/embeddings`: texts in, vectors out, in one request."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
