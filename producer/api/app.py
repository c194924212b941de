"""The service: all routes over one client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from producer.api import (
    backlog,
    docs,
    errors,
    events,
    health,
    keys,
    native,
    parts,
    results,
    tei,
    teiembed,
    tokens,
    webhooks,
    workers,
)
from producer.api.bodylimits import BodyLimits
from producer.api.calls import Calls
from producer.api.deliverer import Deliverer
from producer.api.document import install_document
from producer.api.guard import Guard
from producer.api.heads import Heads
from producer.api.metrics import Metrics
from producer.api.openai import batches, embeddings, files, models, uploads
from producer.api.openai.batchwork import BatchWork
from producer.api.origins import Origins
from producer.api.presence import Presence
from producer.api.service import Service
from producer.api.settings import ApiSettings
from producer.api.streams import Streams
from producer.api.waiting import Waiting
from producer.client import Client
from producer.web import pages
from storage.contract.settings import listed
from storage.hints import Hints

_ROUTERS = (
    parts.router,
    results.router,
    events.router,
    native.router,
    webhooks.router,
    keys.router,
    workers.router,
    backlog.router,
    tokens.router,
    embeddings.router,
    files.router,
    uploads.router,
    batches.router,
    models.router,
    tei.router,
    teiembed.router,
    health.router,
    docs.router,
    pages.router,
)


def create_app(settings: ApiSettings) -> FastAPI:
    """Return the service as an ASGI application.

    Args:
        settings: What it serves and where its storage is.

    Raises:
        StorageUnavailable: When the database cannot be reached.
        SchemaMismatch: When the database must be migrated, or this program upgraded.
    """
    client = Client(settings=settings, folders=False)
    hints = Hints(settings.redis)
    streams = Streams(lambda job_id: events.look(service, job_id), settings.max_streams, client.stores.jobs.ended)
    metrics = Metrics(client.stores, lambda: streams.open, settings.machine)
    waiting = Waiting(client.stores.jobs, hints)
    calls = Calls(client, waiting, settings.max_calls, settings.call_timeout)
    batch_work = BatchWork(client, settings)
    service = Service(settings, client, waiting, streams, metrics, calls, batch_work)

    presence = Presence(client.stores)
    deliverer = Deliverer(client.stores, lambda job_id: events.look(service, job_id)[0], listed(settings.webhook_hosts))

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        # Celery takes a third of a second to load, and many on a machine that does much else.
        threading.Thread(target=client.prepare, name="prepare", daemon=True).start()
        presence.start()
        service.waiting.start()
        deliverer.start()
        service.batch_work.start()
        try:
            yield
        finally:
            deliverer.stop()
            await asyncio.to_thread(presence.stop)
            await service.calls.close()
            await asyncio.to_thread(service.batch_work.stop)
            service.waiting.stop()
            hints.close()
            client.close()

    # A slash too many is told: a redirect behind a proxy would send texts to another place, and without TLS.
    app = FastAPI(
        title="Embedmill",
        version=version("embedmill"),
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    errors.install(app)
    # The last one added is the outermost.
    app.add_middleware(BodyLimits, settings=settings, room=service.body_room)
    if settings.auth == "none":
        app.add_middleware(Origins, settings=settings)
    app.add_middleware(Heads)
    app.add_middleware(Guard, metrics=metrics)
    for router in _ROUTERS:
        app.include_router(router)
    install_document(app, with_keys=settings.auth == "keys")
    return app
