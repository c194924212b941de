"""The command line's arguments that several commands share, each described once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from producer.advice import remember_place
from storage.contract.errors import InvalidOption
from storage.contract.options import ON_LONG, PADDINGS, POOLINGS, STORE_DTYPES, JobOptions
from storage.contract.settings import Settings
from storage.moments import moment

_WHERE = "Where"

DataDir = Annotated[
    Path | None, typer.Option(help="Folder of the embedded database and Redis.", rich_help_panel=_WHERE)
]
DatabaseUrl = Annotated[str | None, typer.Option(help="Database; default: the embedded one.", rich_help_panel=_WHERE)]
RedisUrl = Annotated[str | None, typer.Option(help="Redis; default: the embedded one.", rich_help_panel=_WHERE)]
Url = Annotated[
    str | None,
    typer.Option(
        help="HTTP service to ask in their place, such as http://host:8000; default: EMBEDMILL_URL. Its key:"
        " EMBEDMILL_API_KEY.",
        rich_help_panel=_WHERE,
    ),
]
Labels = Annotated[
    list[str] | None, typer.Option(metavar="NAME=VALUE", help="A label to find the job again by; may be repeated.")
]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the output file.")]
Output = Annotated[
    Path, typer.Option("-o", "--output", help="File ending in npy, npz, jsonl, arrow or parquet; - for stdout.")
]
OutputFormat = Annotated[str | None, typer.Option("--output-format", help="Format, when the ending does not say.")]
Encoding = Annotated[str, typer.Option(help="Vectors in jsonl: float, or base64 of little-endian float32.")]


def _one_of(values: tuple[str, ...]) -> str:
    return f"One of {', '.join(values)}."


def _input_arguments(
    source: Annotated[
        str, typer.Argument(metavar="FILE|-", help="txt, jsonl, csv, tsv or parquet, also .gz and .zst.")
    ],
    model: Annotated[str | None, typer.Option(help="Hub name or folder.", show_default=False)] = None,
    revision: Annotated[str | None, typer.Option(help="Commit hash of the model, or its beginning.")] = None,
    input_format: Annotated[
        str | None, typer.Option("--format", help="Input format, when the ending does not say.")
    ] = None,
    text_field: Annotated[str | None, typer.Option(help="Field or column of the texts. Default: text.")] = None,
    id_field: Annotated[str | None, typer.Option(help="Field or column of your own ids.")] = None,
    delimiter: Annotated[
        str | None, typer.Option(help="Between two fields of a csv, such as ';'. Default: a comma.")
    ] = None,
    on_invalid: Annotated[
        str, typer.Option(help="refuse: accept nothing; keep: make it that item's error.")
    ] = "refuse",
    idempotency_key: Annotated[str | None, typer.Option(help="The same key and payload give the same job.")] = None,
    expires_in: Annotated[float | None, typer.Option(help="Seconds after which the job ends. Default: never.")] = None,
    keep_days: Annotated[
        float | None, typer.Option(help="Days that the ended job is kept. Default: EMBEDMILL_KEEP_DAYS, else 30.")
    ] = None,
    keep_texts_days: Annotated[
        float | None, typer.Option(help="The same for its texts; 0: they go at the end. Default: as long as the job.")
    ] = None,
    priority: Annotated[str, typer.Option(help="bulk, or urgent for a few texts somebody waits for.")] = "bulk",
    name: Annotated[str | None, typer.Option(help="What you call the job.")] = None,
    label: Labels = None,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="https:// address that the service tells the job's end.")
    ] = None,
) -> None: ...


def _filter_arguments(
    state: Annotated[list[str] | None, typer.Option(help="Only jobs in this state, or in one of several.")] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs for this model.")] = None,
    name: Annotated[str | None, typer.Option(help="Only jobs of this name.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="Only jobs with this label, NAME=VALUE; may be repeated.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only jobs made since: 90m, 12h or 7d ago, or 2026-11-29T18:00 (UTC).")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only jobs made before; as --since.")] = None,
) -> None: ...


def _option_arguments(
    pooling: Annotated[str | None, typer.Option(help=_one_of(POOLINGS) + " Default: the model's own.")] = None,
    normalize: Annotated[bool | None, typer.Option(help="Scale vectors to length 1. Default: the model's own.")] = None,
    layer: Annotated[int, typer.Option(help="-1: the last layer; 0: the embedding layer's output.")] = -1,
    max_length: Annotated[int | None, typer.Option(help="Most tokens of a text. Default: the model's own.")] = None,
    padding: Annotated[str, typer.Option(help=_one_of(PADDINGS))] = "longest",
    on_long: Annotated[str, typer.Option(help=_one_of(ON_LONG))] = "truncate",
    prompt: Annotated[str | None, typer.Option(help="Put before every text.")] = None,
    prompt_name: Annotated[str | None, typer.Option(help="One of the model's own prompts instead.")] = None,
    dimensions: Annotated[int | None, typer.Option(help="Keep the first so many, renormalised (Matryoshka).")] = None,
    store_dtype: Annotated[str, typer.Option(help=_one_of(STORE_DTYPES))] = "float32",
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="Batches follow from the chunk alone: the same bits each time."),
    ] = False,
) -> None: ...


def _place_arguments(
    data_dir: DataDir = None, database_url: DatabaseUrl = None, redis_url: RedisUrl = None, url: Url = None
) -> None: ...


def _settings(given: dict[str, Any]) -> Settings:
    """Return the settings; a place that is given counts more than one in the environment, of either kind."""
    remember_place(given)
    local = [name for name in ("data_dir", "database_url", "redis_url") if given[name] is not None]
    if given["url"] is not None and local:
        raise InvalidOption(
            f"--url and --{local[0].replace('_', '-')} were both given.", "Name a service, or a database."
        )
    settings = Settings.load(**given)
    return settings.model_copy(update={"url": None}) if local else settings


def _found(given: dict[str, Any]) -> Settings:
    """Return the same of a database that is there: a mistyped folder would else be made, and be empty."""
    settings = _settings(given)
    if settings.url is None and settings.database_is_embedded and not settings.database_file.exists():
        from storage.sqlitefile import DatabaseMissing  # SQLAlchemy costs a third of a second

        raise DatabaseMissing(settings.database_file)
    return settings


def placed(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the arguments that say where storage and Redis are, or the service; handed to it as `settings`.

    The embedded database must be there; see `placed_anew`.
    """
    return _extended(command, "settings", _place_arguments, _found)


def placed_anew(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the same that brings something new, so that the embedded database may be made for it."""
    return _extended(command, "settings", _place_arguments, _settings)


def with_job_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command every option of a job, handed to it as `options`."""
    return _extended(command, "options", _option_arguments, lambda given: JobOptions(**given))


def with_input(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the arguments that say what is read and how it is submitted, handed to it as `given`."""
    return _extended(command, "given", _input_arguments, _labelled)


def with_filter(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the arguments that say which jobs are meant, handed to it as `wanted`."""
    return _extended(command, "wanted", _filter_arguments, _filter)


def _filter(given: dict[str, Any]) -> dict[str, Any]:
    """Return what `jobs` of a client takes."""
    now = datetime.now(UTC)
    states = [state for several in given.pop("state") or () for state in several.split(",")]
    moments = {end: None if given[end] is None else moment(given[end], now) for end in ("since", "until")}
    return _labelled(given) | moments | {"states": states or None}


def _labelled(given: dict[str, Any]) -> dict[str, Any]:
    """Return the same with labels by their names."""
    pairs = [label.partition("=") for label in given["label"] or ()]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise InvalidOption(f"--label {name}{equals} has no name, or no value.", "Write it like team=search.")
    labels = {name: value for name, _, value in pairs}
    if len(labels) < len(pairs):
        raise InvalidOption("A --label was given twice.", "A job has one value for each name.")
    return {key: value for key, value in given.items() if key != "label"} | {"labels": labels or None}


def _extended(
    command: Callable[..., None], name: str, template: Callable[..., None], make: Callable[[dict[str, Any]], Any]
) -> Callable[..., None]:
    """Return `command` with its parameter `name` replaced by those of `template`, from which `make` makes it."""
    own = inspect.signature(command, eval_str=True)
    shared = inspect.signature(template, eval_str=True).parameters

    def wrapper(**values: Any) -> None:
        made = make({key: values.pop(key) for key in shared})
        command(**values, **{name: made})

    kept = [parameter for parameter in own.parameters.values() if parameter.name != name]
    everything = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*kept, *shared.values())]
    wrapper.__signature__ = own.replace(parameters=everything)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in everything}
    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    return wrapper
