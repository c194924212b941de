"""The embedding commands: worker, reconcile, tokens, bench."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from storage.contract.errors import InvalidOption, MissingExtra

if TYPE_CHECKING:
    from worker.devices import Slot
    from worker.settings import WorkerSettings

app = typer.Typer(help="Serve a model.")

Model = Annotated[str | None, typer.Option(help="Hub name or folder.", show_default=False)]
Revision = Annotated[str | None, typer.Option(help="Commit hash of a hub model.")]
Dtype = Annotated[
    str | None, typer.Option(help="auto (measured), float32, bfloat16, float16 or int8.", show_default=False)
]
Backend = Annotated[str | None, typer.Option(help="torch or openvino. Default: torch, but for int8.")]
Devices = Annotated[
    str | None, typer.Option(help="auto, gpus, all, cpu, or a list: cuda:0,cuda:1.", show_default=False)
]
TokenBudget = Annotated[int | None, typer.Option(help="Most tokens of a batch. Default: measured.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder of the embedded database and Redis.")]
DatabaseUrl = Annotated[str | None, typer.Option(help="Database; default: the embedded one.")]
RedisUrl = Annotated[str | None, typer.Option(help="Redis; default: the embedded one.")]


@app.command()
def worker(
    model: Model = None,
    revision: Revision = None,
    dtype: Dtype = None,
    backend: Backend = None,
    devices: Devices = None,
    token_budget: TokenBudget = None,
    health_port: Annotated[int | None, typer.Option(help="Port of /healthz and /readyz.")] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    redis_url: RedisUrl = None,
) -> None:
    """Serve a model on this machine's devices until told to stop: one process a device, and a reconciler."""
    from storage import logs
    from worker.devices import choose_slots, find_gpus
    from worker.health import HealthServer
    from worker.settings import WorkerSettings
    from worker.stop import on_signals
    from worker.supervisor import Supervisor

    check_installed()
    settings = WorkerSettings.load(
        model=model,
        revision=revision,
        dtype=dtype,
        backend=backend,
        devices=devices,
        token_budget=token_budget,
        health_port=health_port,
        data_dir=data_dir,
        database_url=database_url,
        redis_url=redis_url,
    )
    logs.configure(settings.log_level, "supervisor", settings.log_format)
    slots = choose_slots(settings.devices, find_gpus())
    check_backend(settings, slots)
    check_model(settings.model, settings.revision)
    supervisor = Supervisor(settings, slots)
    on_signals(supervisor.stop)
    health = None
    if settings.health_port is not None:
        health = HealthServer(settings.health_host, settings.health_port, supervisor)
        health.start()
        logs.say(f"{health.url}/readyz tells when it is ready.")
    supervisor.run()
    if health is not None:
        health.close()


@app.command()
def reconcile(
    health_port: Annotated[int | None, typer.Option(help="Port of /healthz, /readyz and /metrics.")] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    redis_url: RedisUrl = None,
) -> None:
    """Keep queue and storage in agreement; every worker does so too, and only one of all leads."""
    from storage import logs
    from storage.stores import Stores
    from worker.health import HealthServer
    from worker.metrics import WatchedReconciler
    from worker.reconciler import run_until_stopped
    from worker.settings import WorkerSettings

    place = {"data_dir": data_dir, "database_url": database_url, "redis_url": redis_url}
    settings = WorkerSettings.load(**place, health_port=health_port)
    logs.configure(settings.log_level, "reconciler", settings.log_format)
    if settings.health_port is None:
        run_until_stopped(settings)
        return
    watched = WatchedReconciler(Stores.open(settings))
    health = HealthServer(settings.health_host, settings.health_port, watched)
    health.start()
    logs.say(f"{health.url}/readyz tells when it is ready.")
    run_until_stopped(settings, ticked=watched.tick)
    health.close()


@app.command()
def tokens(
    text: Annotated[str, typer.Argument(help="Any text.")],
    model: Model = None,
    revision: Revision = None,
    max_length: Annotated[int | None, typer.Option(min=3, help="Most tokens. Default: the model's own.")] = None,
    padding: Annotated[str, typer.Option(help="longest, or max_length as in the classic BERT call.")] = "longest",
    prompt: Annotated[str | None, typer.Option(help="Put before the text. Default: the model's own.")] = None,
    prompt_name: Annotated[str | None, typer.Option(help="One of the model's own prompts instead.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show what becomes of a text before it is embedded: pieces, ids, mask, and what would be cut."""
    from storage.contract.options import JobOptions
    from worker.settings import WorkerSettings

    check_installed()
    options = JobOptions(max_length=max_length, padding=padding, prompt=prompt, prompt_name=prompt_name)
    _check_utf8(text)
    from worker.display import print_tokens
    from worker.engine.checkpoint import resolve
    from worker.engine.tokenizing import Tokenizer

    settings = WorkerSettings.load(model=model, revision=revision)
    checkpoint = resolve(settings.model, settings.revision)
    card = checkpoint.card("float32")
    # Nothing is computed here, and more tokens than the model reads do no harm.
    replace(options, max_length=None).check_against(card)
    whole = options.prompt_for(card) + text
    found = Tokenizer(checkpoint).describe(whole, max_length or checkpoint.max_length, padding)
    if as_json:
        shown = {"pieces": found.pieces, "ids": found.ids, "mask": found.mask}
        told = shown | {"length": found.length, "truncated": found.truncated}
        print(json.dumps(told, ensure_ascii=not _writes_unicode()))
    else:
        print_tokens(found)


@app.command()
def bench(
    model: Model = None,
    revision: Revision = None,
    dtype: Dtype = None,
    backend: Backend = None,
    devices: Devices = None,
    token_budget: TokenBudget = None,
    seconds: Annotated[float, typer.Option(min=1, help="How long to measure, about.")] = 20.0,
    texts: Annotated[Path | None, typer.Option(help="File with one text a line. Default: made paragraphs.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Measure a model on this machine: what each stage costs, how near the floor it comes, and what limits."""
    from storage import logs
    from worker.bench.measuring import NotMeasured, run
    from worker.devices import choose_slots, find_gpus
    from worker.display import print_report
    from worker.settings import WorkerSettings

    check_installed()
    settings = WorkerSettings.load(
        model=model, revision=revision, dtype=dtype, backend=backend, devices=devices, token_budget=token_budget
    )
    logs.configure(settings.log_level, "bench", "text")
    slot = choose_slots(settings.devices, find_gpus())[0]
    check_backend(settings, [slot])
    check_model(settings.model, settings.revision)
    print(f"Measuring {settings.model} on {slot.name} for about {seconds:.0f} s.", file=sys.stderr)
    try:
        report = run(settings, slot, seconds, texts and texts.absolute())
    except NotMeasured as error:
        raise typer.Exit(error.code) from error
    if as_json:
        print(json.dumps(report))
    else:
        print_report(report)


def _check_utf8(text: str) -> None:
    """Refuse bytes that the shell gave and that are no text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidOption("The text is not UTF-8.", "Give it in UTF-8.") from error


def _writes_unicode() -> bool:
    return sys.stdout is not None and (sys.stdout.encoding or "").lower().startswith("utf")


def check_model(name: str, revision: str | None) -> None:
    """Look at the model's files before anything is started, so that a wrong name is told at once.

    Raises:
        ModelRefused: When it is of a kind that is not served.
        ModelBroken: When it is incomplete, or nowhere to be found.
    """
    from worker.engine.checkpoint import resolve

    resolve(name, revision)
    if "torch" in sys.modules:
        raise RuntimeError("the supervisor has imported torch")


def check_backend(settings: WorkerSettings, slots: list[Slot]) -> None:
    """Check that what is to compute goes with what it is to compute in, and on.

    Raises:
        InvalidOption: When it does not.
        MissingExtra: When it is not installed.
    """
    from worker.engine.backends import choose_backend

    for slot in slots:
        choose_backend(settings.backend, settings.dtype, slot.torch_device)


def check_installed() -> None:
    """Check that the embedding side's packages are installed, without importing them.

    Raises:
        MissingExtra: When they are not.
    """
    from importlib.util import find_spec

    if any(find_spec(name) is None for name in ("torch", "transformers", "tokenizers", "safetensors")):
        raise MissingExtra("The embedding side", "worker")
