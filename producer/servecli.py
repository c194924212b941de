"""The command that serves everything over HTTP: `api`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from storage.contract.errors import MissingExtra

app = typer.Typer(help="Serve over HTTP.")

Host = Annotated[str | None, typer.Option(help="Address to listen on. Default: this machine alone.", metavar="HOST")]
Auth = Annotated[str | None, typer.Option(help="none, or keys: every request needs an API key.", metavar="none|keys")]
OpenToAll = Annotated[
    bool | None, typer.Option("--open-to-all", help="With --auth none: listen beyond this machine without keys.")
]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0: a free one. Default: 8000.")]


@app.command()
def api(
    host: Host = None,
    port: Port = None,
    auth: Auth = None,
    open_to_all: OpenToAll = None,
    model: Annotated[str | None, typer.Option(help="Model of jobs that name none.", show_default=False)] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the embedded database and Redis.")] = None,
    database_url: Annotated[str | None, typer.Option(help="Database; default: the embedded one.")] = None,
    redis_url: Annotated[str | None, typer.Option(help="Redis; default: the embedded one.")] = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = None,
) -> None:
    """Serve the page and the HTTP API in one process until told to stop; workers are elsewhere."""
    from producer.api.settings import ApiSettings
    from producer.listening import address_of, take_port
    from storage import logs, tracing

    check_installed()
    settings = ApiSettings.load(
        host=host,
        port=port,
        auth=auth,
        open_to_all=open_to_all,
        model=model,
        data_dir=data_dir,
        database_url=database_url,
        redis_url=redis_url,
        log_level=log_level,
    )
    settings.check_exposure()
    logs.configure(settings.log_level, "api", settings.log_format)
    tracing.start(settings, "api")
    with take_port(settings.host, settings.port) as listening:
        from producer.api.server import run

        where = address_of(settings.host, listening)
        run(settings, listening, lambda: logs.say(f"Embedmill answers at {where} ({where}/readyz)."))


def check_installed() -> None:
    """Check that the service's packages are installed, without importing them.

    Raises:
        MissingExtra: When they are not.
    """
    if not is_installed():
        raise MissingExtra("The HTTP service", "api")


def is_installed() -> bool:
    """Whether the service's packages are installed; none of them is imported."""
    needed = ("fastapi", "uvicorn", "httptools", "python_multipart", "jinja2", "tokenizers", "prometheus_client")
    return all(find_spec(name) is not None for name in needed)
