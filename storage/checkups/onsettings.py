"""Settings: what each is, where it comes from, and whether something that was set is no setting."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import SecretStr

from storage.checkups.check import Area, Outcome, ok, warning
from storage.checkups.places import shown
from storage.contract.settings import Settings

_PREFIX = "EMBEDMILL_"

#: Variables that are no settings: how a process of ours tells its children something, and what tests set.
_OTHERS = frozenset({"EMBEDMILL_FAILPOINTS", "EMBEDMILL_PARENT", "EMBEDMILL_SUPERVISOR_PIPE"})

#: What docker-compose.yml and deploy/postgres/roles.sql read, and an operator therefore has in `.env` or his shell.
_OPERATORS = frozenset(
    f"{_PREFIX}{name}"
    for name in (
        *("TAG", "TORCH", "REVISION", "SECRETS", "PORT", "WORKERS"),
        *(f"{part}_{limit}" for part in ("API", "WORKER", "GPU_WORKER") for limit in ("CPUS", "MEMORY")),
        *(f"{role}_PASSWORD" for role in ("OWNER", "API", "WORKER")),
    )
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is in force.

    Args:
        name: As the environment has it.
        value: As it may be shown.
        source: `flag`, `environment`, `.env`, `default`, or `file`: one that a variable of the environment names.
    """

    name: str
    value: str
    source: str

    def __str__(self) -> str:
        return f"{self.name} = {self.value} ({self.source})"


def area(kinds: Sequence[type[Settings]], flags: dict[str, Any]) -> Area[list[Setting]]:
    """Return the checks of everything that may be set.

    Args:
        kinds: The classes of settings of all commands.
        flags: What was given on the command line; None counts as not given.
    """

    @contextmanager
    def opened() -> Iterator[tuple[list[Setting], Outcome]]:
        found = {setting.name: setting for kind in kinds for setting in _settings(kind, flags)}
        chosen = [str(setting) for setting in found.values() if setting.source != "default"]
        told = "Every setting is at its default." if not chosen else f"{len(chosen)} of {len(found)} settings are set."
        yield list(found.values()), ok(told, chosen)

    checks: Area[list[Setting]] = Area("settings", "values", opened)
    checks.check("names", _names)
    checks.check("secrets", _secrets)
    return checks


def _settings(kind: type[Settings], flags: dict[str, Any]) -> Iterator[Setting]:
    given = {name: value for name, value in flags.items() if value is not None and name in kind.model_fields}
    settings = kind.load(**given)
    in_file = {name.upper() for name, value in dotenv_values(".env").items() if value}
    in_environment = {name.upper() for name, value in os.environ.items() if value}
    for field in kind.model_fields:
        name = f"{_PREFIX}{field.upper()}"
        source = "default"
        if field in given:
            source = "flag"
        elif name in in_environment:
            source = "environment"
        elif f"{name}_FILE" in in_environment:
            source = "file"
        elif name in in_file:
            source = ".env"
        yield Setting(name, _value(getattr(settings, field)), source)


def _value(value: Any) -> str:
    if isinstance(value, SecretStr):
        return "***"
    return "none" if value is None else shown(str(value))


def _names(settings: list[Setting]) -> Outcome:
    # A setting may also stand in a file that a variable names.
    known = {name for setting in settings for name in (setting.name, f"{setting.name}_FILE")}
    set_here = {name.upper() for name in (*os.environ, *dotenv_values(".env"))}
    unknown = sorted(name for name in set_here - known - _OTHERS - _OPERATORS if name.startswith(_PREFIX))
    if not unknown:
        return ok(f"Every variable that begins with {_PREFIX} is a setting.")
    likely = [difflib.get_close_matches(name, known, 1) for name in unknown]
    told = [f"{name}{f' (meant {near[0]}?)' if near else ''}" for name, near in zip(unknown, likely, strict=True)]
    return warning(f"Nothing reads {', '.join(told)}.", "Mend the name, or take it away.")


def _secrets(settings: list[Setting]) -> Outcome:
    file = Path(".env")
    if not file.is_file():
        return ok("There is no .env here.")
    hidden = any(setting.source == ".env" and "***" in setting.value for setting in settings)
    if hidden and file.stat().st_mode & 0o077:
        return warning(f"{file.absolute()} holds a password, and others may read it.", f"Run chmod 600 {file}.")
    return ok("Nobody else reads a password from .env.")
