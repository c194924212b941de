"""Settings from files: `EMBEDMILL_DATABASE_PASSWORD_FILE` names the file that holds `EMBEDMILL_DATABASE_PASSWORD`.

So a password stands neither in the environment of a process nor in what a container engine tells of a container. The
file `.env` names no such file: the folder one stands in may be somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from storage.contract.errors import InvalidOption


class SettingFiles(PydanticBaseSettingsSource):
    """The values of all settings for which a variable with `_FILE` after its name is there.

    Args:
        settings_cls: The settings.
        variables: Where such variables are looked for, their names in small letters.
    """

    def __init__(self, settings_cls: type[BaseSettings], variables: Mapping[str, str | None]) -> None:
        super().__init__(settings_cls)
        self._variables = variables

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return what the file of a setting holds, or None where no file is named."""
        variable = f"{self.config.get('env_prefix', '')}{field_name}_file"
        path = self._variables.get(variable.lower())
        return path and _read(variable.upper(), Path(path)), field_name, False

    def left_to(self, given: Iterable[str]) -> frozenset[str]:
        """Return the names of the settings whose values files give.

        Args:
            given: Names of those that flags gave.
        """
        prefix = str(self.config.get("env_prefix", "")).lower()
        names = self.settings_cls.model_fields.keys() - set(given)
        said = {name.lower() for name, value in self._variables.items() if value}
        return frozenset(name for name in names if f"{prefix}{name}_file" in said and f"{prefix}{name}" not in said)

    def __call__(self) -> dict[str, Any]:
        """Return the settings that files are named for.

        Raises:
            InvalidOption: When a file cannot be read or holds nothing.
        """
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value}


#: Each address with the secret that is shown to whoever answers there.
_SHOWN = {"url": "api_key", "redis_url": "redis_password", "database_url": "database_password"}


class FolderGuard(PydanticBaseSettingsSource):
    """Judges what `.env` says before it counts, and gives no value itself.

    Args:
        settings_cls: The settings.
        variables: What stands in `.env`, the names in small letters.
    """

    def __init__(self, settings_cls: type[BaseSettings], variables: Mapping[str, str | None]) -> None:
        super().__init__(settings_cls)
        self._variables = variables

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return nothing: this only judges."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return nothing.

        Raises:
            InvalidOption: When `.env` names a file to be read, or an address for a secret that stands elsewhere.
        """
        prefix = str(self.config.get("env_prefix", "")).lower()
        shown = prefix.upper()
        for name in self.settings_cls.model_fields:
            if self._variables.get(f"{prefix}{name}_file"):
                raise InvalidOption(
                    f"{shown}{name.upper()}_FILE stands in .env, which names no files: what any of yours holds"
                    " would go where the folder's owner wants it.",
                    "Set it in the environment.",
                )
        for address, secret in _SHOWN.items():
            named = self._variables.get(f"{prefix}{address}")
            # SQLite's is a file, to which nothing is shown.
            is_theirs = named and not named.startswith("sqlite") and address not in self.current_state
            if is_theirs and secret in self.current_state:
                raise InvalidOption(
                    f"{shown}{address.upper()} stands in .env, and {shown}{secret.upper()} elsewhere: a secret of yours"
                    " would go to whomever this folder names.",
                    "Set both in the environment, or both in .env.",
                )
        return {}


def _read(variable: str, path: Path) -> str:
    try:
        value = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InvalidOption(
            f"The file that {variable} names cannot be read: {error.strerror} ({path}).",
            "Name a file that the user this program runs as may read.",
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidOption(f"The file that {variable} names is not UTF-8 ({path}).", "Save it as UTF-8.") from error
    if not value:
        raise InvalidOption(f"The file that {variable} names is empty ({path}).", "Write the value into it.")
    return value
