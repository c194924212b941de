"""The dialect of Hugging Face's text-embeddings-inference."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
