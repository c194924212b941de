"""Workers and models: who is there, what each does now, and how much waits for whom."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from producer.api.auth import Reader
from producer.api.documented import failures
from producer.api.service import Service, ServiceDep
from storage.contract.models import ModelCard
from storage.loads import Load
from storage.releases import HERE
from storage.services import ServiceProcess
from storage.workloads import WorkerLoad

router = APIRouter(tags=["workers"])


class LoadView(BaseModel):
    """Some work, counted three ways."""

    chunks: int = Field(description="Pieces of jobs, the unit that a worker takes.", examples=[12])
    texts: int = Field(description="Texts in them that have no outcome yet.", examples=[3072])
    tokens: int = Field(description="Tokens in them, estimated.", examples=[98304])


class WorkerView(BaseModel):
    """One live worker process."""

    id: str = Field(description="Id of this start of the process.")
    model: str = Field(description="Name of the model it serves.")
    model_id: str = Field(description="Identity of that model: name, revision and precision.")
    host: str = Field(description="Machine it runs on.")
    pid: int = Field(description="Its process id there.")
    device: str = Field(description="Device it is pinned to.", examples=["cuda:0"])
    up_seconds: float = Field(description="For how long it has been ready.")
    seen_seconds: float = Field(description="How long ago it was heard of.")
    jobs: int = Field(description="Number of jobs that it works on now; 0 when it is idle.")
    in_hand: LoadView = Field(description="What it has taken and not yet finished.")
    version: str | None = Field(description="Version of its program; null of one from before schema 0013.")
    schema_version: str | None = Field(description="Newest schema of the database that it knows.", examples=["0015"])
    tokens_per_second: float | None = Field(description="Tokens that it read in its last 30 s, a second.")
    batch_fill: float | None = Field(
        description="How full its batches of the last 30 s were, padding included; null without one.", examples=[0.93]
    )
    padding_share: float | None = Field(
        description="Share of padding in those batches; null without one.", examples=[0.04]
    )
    memory_bytes: int | None = Field(description="Memory that its process occupies.")
    gpu_memory_bytes: int | None = Field(
        description="Memory in use on its GPU, by all processes; null where it has none."
    )
    gpu_memory_total_bytes: int | None = Field(description="Memory of that GPU.")


class ServiceView(BaseModel):
    """One live process of the service."""

    id: str = Field(description="Id of this start of the process.")
    host: str = Field(description="Machine it runs on.")
    pid: int = Field(description="Its process id there.")
    version: str = Field(description="Version of its program.")
    schema_version: str = Field(description="Newest schema of the database that it knows.", examples=["0015"])
    up_seconds: float = Field(description="For how long it has been there.")
    seen_seconds: float = Field(description="How long ago it was heard of.")


class ModelView(BaseModel):
    """One model that a worker has registered, now or earlier."""

    id: str = Field(description="Identity: name, revision and precision.")
    name: str = Field(description="Hub name or folder.", examples=["sentence-transformers/all-MiniLM-L6-v2"])
    revision: str = Field(description="Commit hash, or a hash of the folder's content.")
    precision: str = Field(description="`float32`, `half` or `int8`.")
    width: int = Field(description="Components of a vector.", examples=[384])
    max_length: int = Field(description="Most tokens of a text.", examples=[256])
    pooling: str = Field(description="Pooling used when a job names none.")
    prompts: list[str] = Field(description="Names of its prompts.")
    workers: int = Field(description="Live workers that serve it.")
    queued: LoadView = Field(description="What waits for it or is in hand.")
    oldest_seconds: float | None = Field(
        description="Age of the oldest job of which something waits or is in hand; null where nothing is."
    )
    tokens_per_second: float = Field(description="Tokens that its live workers read in their last 30 s, a second.")


class WorkersView(BaseModel):
    """Everything at one moment."""

    version: str = Field(description="Version of the process of the service that answers.")
    schema_version: str = Field(description="Newest schema of the database that it knows.", examples=["0015"])
    services: list[ServiceView] = Field(description="Live processes of the service; those of before 0013 tell nothing.")
    workers: list[WorkerView] = Field(description="Live workers, by host and device.")
    models: list[ModelView] = Field(description="Models ever registered: those served now first.")
    queued: LoadView = Field(description="What waits or is in hand, of all models, of unknown ones too.")
    tokens_per_second: float = Field(description="Tokens that all live workers read in their last 30 s, a second.")


@router.get(
    "/v1/workers",
    operation_id="list_workers",
    summary="Show workers, models and what waits",
    response_model=WorkersView,
    responses=failures(),
)
def list_workers(service: ServiceDep, caller: Reader) -> WorkersView:
    """Return live workers with what they have in hand, and models with what waits for them."""
    return overview(service)


def overview(service: Service) -> WorkersView:
    """Return live workers and models, and what waits, which may be a little old where much does: see `/v1/backlog`.

    Args:
        service: Knows where all of it is kept.
    """
    stores = service.stores
    workload = stores.workloads.get(waits=service.backlog.get())
    served = sorted(stores.workers.cards(), key=lambda one: one.workers == 0)
    names = {one.card.id: one.card.name for one in served}
    models = [
        _model(
            one.card,
            one.workers,
            workload.queued.get(one.card.id, Load()),
            workload.oldest_seconds.get(one.card.id),
            workload.tokens_per_second.get(one.card.id, 0.0),
        )
        for one in served
    ]
    return WorkersView(
        version=str(HERE.version),
        schema_version=str(HERE.schema),
        services=[_service(one) for one in stores.services.live()],
        workers=[_worker(one, names) for one in workload.workers],
        models=models,
        queued=_load(*workload.queued.values()),
        tokens_per_second=round(sum(workload.tokens_per_second.values()), 1),
    )


def _worker(one: WorkerLoad, names: dict[str, str]) -> WorkerView:
    return WorkerView(
        id=one.id,
        model=names.get(one.model_id, ""),
        model_id=one.model_id,
        host=one.host,
        pid=one.pid,
        device=one.device,
        up_seconds=one.up_seconds,
        seen_seconds=one.silent_seconds,
        jobs=one.jobs,
        in_hand=_load(one.in_hand),
        version=one.release.version,
        schema_version=one.release.schema,
        tokens_per_second=one.pulse.tokens_per_second,
        batch_fill=one.pulse.batch_fill,
        padding_share=one.pulse.padding_share,
        memory_bytes=one.pulse.memory,
        gpu_memory_bytes=one.pulse.gpu_memory,
        gpu_memory_total_bytes=one.pulse.gpu_memory_total,
    )


def _service(one: ServiceProcess) -> ServiceView:
    return ServiceView(
        id=one.id,
        host=one.host,
        pid=one.pid,
        version=str(one.release.version),
        schema_version=str(one.release.schema),
        up_seconds=one.up_seconds,
        seen_seconds=one.silent_seconds,
    )


def _model(card: ModelCard, workers: int, queued: Load, oldest: float | None, rate: float) -> ModelView:
    return ModelView(
        id=card.id,
        name=card.name,
        revision=card.revision,
        precision=card.precision,
        width=card.width,
        max_length=card.max_length,
        pooling=card.pooling,
        prompts=sorted(card.prompts),
        workers=workers,
        queued=_load(queued),
        oldest_seconds=oldest,
        tokens_per_second=rate,
    )


def _load(*loads: Load) -> LoadView:
    return LoadView(
        chunks=sum(one.chunks for one in loads),
        texts=sum(one.texts for one in loads),
        tokens=sum(one.tokens for one in loads),
    )
