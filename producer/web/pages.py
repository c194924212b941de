"""The pages, rendered on the server."""

from __future__ import annotations

from fastapi import APIRouter

from producer.web import assets, job, jobs, signin, tokens, workers

router = APIRouter(include_in_schema=False)
for _part in (assets, jobs, job, workers, tokens, signin):
    router.include_router(_part.router)
