"""Settings that producers and workers share: flag > environment > `.env` > default.

Each field is read from the environment variable of its name in capitals with `EMBEDMILL_` before it, or from the file
that such a variable with `_FILE` after it names; or from a line in `.env` of the folder one stands in.
Nothing connects here; URLs are only chosen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, unquote

import platformdirs
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from storage.contract.errors import InvalidOption
from storage.contract.keeping import MOST_DAYS, Keeping
from storage.contract.models import DEFAULT_MODEL
from storage.contract.redissocket import check_socket_folder, socket_of
from storage.contract.redisurl import checked_redis_url
from storage.contract.settingfiles import FolderGuard, SettingFiles


def _days(given: Any) -> Any:
    return None if given == "forever" else given


class Settings(BaseSettings):
    """What every command needs to know.

    Args:
        redis_url: `redis://`, `unix://` or `redis+sentinel://` URL, over TLS `rediss://` or `rediss+sentinel://`; None:
            the embedded server under `data_dir`.
        redis_password: Password of the user in `redis_url`, instead of one that the URL holds.
        database_url: `sqlite:///` or `postgresql://` URL; None: a SQLite file under `data_dir`.
        database_password: Password of the user in `database_url`, instead of one that the URL holds.
        data_dir: Folder of everything embedded; default: the user's data folder.
        model: Model that a job or worker takes when it names none.
        keep_days: Days after its end that a job is kept where nothing else was said; `forever`, or None:
            until it is deleted.
        keep_texts_days: The same for its texts; None: as long as the job.
        max_text_bytes: Longest text accepted, in bytes of UTF-8.
        url: Address of an HTTP service that producers ask in place of storage; None: they ask storage itself.
        api_key: The key that it is shown.
        webhook_hosts: Hosts, with commas between, that webhooks may be sent to although their address is not a public
            one or they speak no TLS; whoever submits to storage and the service that tells the ends should agree.
        log_level: `DEBUG`, `INFO`, `WARNING` or `ERROR`.
        traces: Whether a collector gets traces of jobs: `otlp`, `off`, or `auto`: where OTEL_EXPORTER_OTLP_ENDPOINT is
            set and the extra `otel` installed.
        trace_chunks: Which chunks of a traced job have spans: `some` (of large jobs), or `all`.
        log_format: How log lines are written: `text`, `json`, or `auto`: text at a terminal, JSON elsewhere.
    """

    model_config = SettingsConfigDict(
        env_prefix="EMBEDMILL_",
        env_file=".env",
        env_file_encoding="utf-8",
        # `EMBEDMILL_DATA_DIR=` would otherwise be the folder one happens to stand in.
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    redis_url: str | None = None
    redis_password: SecretStr | None = None
    database_url: str | None = None
    database_password: SecretStr | None = None
    data_dir: Path = Field(default_factory=lambda: platformdirs.user_data_path("embedmill"))
    model: str = DEFAULT_MODEL
    keep_days: Annotated[float | None, BeforeValidator(_days)] = Field(default=30.0, ge=0, le=MOST_DAYS)
    keep_texts_days: float | None = Field(default=None, ge=0, le=MOST_DAYS)
    max_text_bytes: int = Field(default=1_000_000, ge=1, le=100_000_000)
    url: str | None = None
    api_key: SecretStr | None = None
    webhook_hosts: str = ""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    traces: Literal["auto", "off", "otlp"] = "auto"
    trace_chunks: Literal["some", "all"] = "some"
    log_format: Literal["auto", "text", "json"] = "auto"

    _of_files: frozenset[str] = frozenset()

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: str | None) -> str | None:
        return None if url is None else checked_redis_url(url)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return where settings come from, the first first: a file counts as the variable that names it does."""
        assert isinstance(env_settings, EnvSettingsSource) and isinstance(dotenv_settings, EnvSettingsSource)
        of_environment = (env_settings, SettingFiles(settings_cls, env_settings.env_vars))
        return (init_settings, *of_environment, FolderGuard(settings_cls, dotenv_settings.env_vars), dotenv_settings)

    @classmethod
    def load(cls, **flags: Any) -> Self:
        """Return the settings; flags that are None count as not given.

        Raises:
            InvalidOption: When a value does not fit, naming the variable, or the data folder is of an unknown user, or
                no URL can name it.
        """
        given = {name: value for name, value in flags.items() if value is not None}
        try:
            settings = cls(**given)
        except UnicodeDecodeError as error:
            raise InvalidOption("The file .env in this folder is not UTF-8.", "Save it as UTF-8.") from error
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise InvalidOption(f"Setting {name} ({cls._variable(name)}) is not usable: {first['msg']}.") from error
        settings = settings.model_copy(update={"data_dir": _absolute(settings.data_dir)})
        settings._of_files = SettingFiles(cls, EnvSettingsSource(cls).env_vars).left_to(given)
        if settings.database_is_embedded or settings.redis_is_embedded:
            _check_folder(settings.data_dir)
        return settings

    @staticmethod
    def _variable(name: str) -> str:
        return f"EMBEDMILL_{name.upper()}"

    @property
    def of_files(self) -> frozenset[str]:
        """The names of what was read from files that variables name, so that other processes read it there too."""
        return self._of_files

    @property
    def keeping(self) -> Keeping:
        """How long a job is kept for which nothing else was said."""
        return Keeping(self.keep_days, self.keep_texts_days)

    @property
    def database_is_embedded(self) -> bool:
        """Whether the database is the SQLite file under `data_dir`, made and migrated without being asked."""
        return self.database_url is None

    @property
    def database_file(self) -> Path:
        """Where the embedded database is, or will be made."""
        return self.data_dir / "embedmill.sqlite3"

    @property
    def redis_is_embedded(self) -> bool:
        """Whether Redis is the server that `embedmill up` starts under `data_dir`."""
        return self.redis_url is None

    @property
    def database(self) -> str:
        """The URL of the database in use, with its password."""
        if self.database_url is None:
            return f"sqlite:///{self.database_file}"
        return _with_password(self.database_url, self.database_password)

    @property
    def redis(self) -> str:
        """The URL of the Redis-protocol server in use, with its password.

        Raises:
            QueueUnavailable: When the embedded server's socket lies where somebody else may put his own.
        """
        if self.redis_url is None:
            check_socket_folder(self.data_dir)
            return f"unix://{self.redis_socket}"
        return _with_password(self.redis_url, self.redis_password)

    @property
    def redis_socket(self) -> Path:
        """Where the embedded server listens; beside the data, or in a short folder when that path is too long."""
        return socket_of(self.data_dir)


def _absolute(folder: Path) -> Path:
    """Return a folder's absolute path; `~` is a home folder."""
    try:
        return folder.expanduser().absolute()
    except RuntimeError as error:
        raise InvalidOption(
            f"The data folder {folder} is in a home folder that is not known here.",
            "Choose another with --data-dir or EMBEDMILL_DATA_DIR.",
        ) from error


def listed(names: str) -> frozenset[str]:
    """Return the names of a setting that lists them with commas between, in lower case."""
    return frozenset(name.strip().lower() for name in names.split(",") if name.strip())


def _check_folder(folder: Path) -> None:
    """Refuse a folder that URLs cannot name: what is meant for it would lie in another one."""
    path = str(folder)
    if "?" in path or "#" in path or unquote(path) != path:
        raise InvalidOption(
            f"The data folder {path} has a ?, a # or a % in its name, which URLs read otherwise.",
            "Choose another with --data-dir or EMBEDMILL_DATA_DIR.",
        )


def _with_password(url: str, password: SecretStr | None) -> str:
    """Return a URL with the password of its user; SQLite has no users."""
    scheme, _, rest = url.partition("://")
    if password is None or scheme.startswith("sqlite"):
        return url
    place, slash, path = rest.partition("/")
    login, _, hosts = place.rpartition("@")
    user = login.partition(":")[0]
    return f"{scheme}://{user}:{quote(password.get_secret_value(), safe='')}@{hosts}{slash}{path}"
