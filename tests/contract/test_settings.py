"""Settings: flag > environment > `.env` > default."""

import os
import tempfile
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from storage.contract.broker import KEY_PREFIX, broker_url, celery_settings, sender_settings
from storage.contract.errors import InvalidOption, QueueUnavailable
from storage.contract.models import DEFAULT_MODEL
from storage.contract.sentinel import SentinelURL
from storage.contract.settings import Settings
from storage.redisclient import redis_client


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and an environment that names nothing."""
    for name in [name for name in os.environ if name.startswith("EMBEDMILL_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_flag_wins_over_the_environment_that_over_the_file_that_over_the_default(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Settings.load().model == DEFAULT_MODEL
    (own_folder / ".env").write_text("EMBEDMILL_MODEL=mill/from-file\n")
    assert Settings.load().model == "mill/from-file"
    monkeypatch.setenv("EMBEDMILL_MODEL", "mill/from-environment")
    assert Settings.load().model == "mill/from-environment"
    assert Settings.load(model="mill/from-flag").model == "mill/from-flag"
    # And a flag that was not given is none
    assert Settings.load(model=None).model == "mill/from-environment"


@pytest.mark.parametrize(
    ("variable", "value"),
    [("EMBEDMILL_MAX_TEXT_BYTES", "many"), ("EMBEDMILL_MAX_TEXT_BYTES", "0"), ("EMBEDMILL_MAX_TEXT_BYTES", "1e12")],
)
def test_a_bad_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidOption, match=variable):
        Settings.load()


def test_variables_of_other_programs_are_ignored(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own_folder / ".env").write_text("MODEL=bicycle\nEMBEDMILL_COLOUR=red\n")
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/x")
    settings = Settings.load()
    assert settings.model == DEFAULT_MODEL and settings.database_is_embedded


def test_servers_nobody_names_lie_in_the_data_folder(own_folder: Path) -> None:
    settings = Settings.load(data_dir=Path("mill data"))
    assert settings.data_dir == own_folder / "mill data"
    assert settings.database_is_embedded and settings.redis_is_embedded
    assert settings.database == f"sqlite:///{own_folder}/mill data/embedmill.sqlite3"
    assert settings.redis.startswith("unix://")


@pytest.mark.parametrize("name", ["who?", "mill #2", "%41"])
def test_a_data_folder_that_a_url_would_read_as_another_one_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidOption, match=r"The data folder .* has a \?, a # or a % .* EMBEDMILL_DATA_DIR"):
        Settings.load(data_dir=Path(name))
    # One that only looks like it is not, nor one in which nothing of that kind lies
    assert Settings.load(data_dir=Path("100%")).database.endswith("/100%/embedmill.sqlite3")
    monkeypatch.setenv("EMBEDMILL_DATABASE_URL", "postgresql://miller@db/mill")
    monkeypatch.setenv("EMBEDMILL_REDIS_URL", "redis://queue")
    assert Settings.load(data_dir=Path(name)).data_dir.name == name


def test_servers_that_are_named_are_taken_as_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDMILL_DATABASE_URL", "postgresql://miller@db/mill")
    monkeypatch.setenv("EMBEDMILL_REDIS_URL", "rediss://queue:6380/1")
    settings = Settings.load()
    assert not settings.database_is_embedded and not settings.redis_is_embedded
    assert (settings.database, settings.redis) == ("postgresql://miller@db/mill", "rediss://queue:6380/1")


def test_a_home_folder_is_written_out(monkeypatch: pytest.MonkeyPatch, own_folder: Path) -> None:
    monkeypatch.setenv("HOME", str(own_folder))
    assert Settings.load(data_dir=Path("~/mill")).data_dir == own_folder / "mill"


def test_the_socket_lies_beside_the_data_where_its_path_is_short() -> None:
    settings = Settings.load(data_dir=Path("/srv/mill"))
    assert settings.redis_socket == Path("/srv/mill/redis.sock")
    assert settings.redis == "unix:///srv/mill/redis.sock"


def test_the_socket_of_a_long_path_lies_in_a_short_one_of_its_own(own_folder: Path) -> None:
    first = Settings.load(data_dir=Path("/srv") / "mühle" / ("x" * 90))
    second = Settings.load(data_dir=Path("/srv") / "mühle" / ("y" * 90))
    for settings in (first, second):
        assert len(os.fsencode(settings.redis_socket)) <= 100
        assert not settings.redis_socket.is_relative_to(settings.data_dir)
    assert first.redis_socket != second.redis_socket
    # And every command finds it again
    assert Settings.load(data_dir=first.data_dir).redis_socket == first.redis_socket


def test_a_socket_in_a_folder_that_others_write_in_is_not_asked(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a data folder of a long path, and where everybody makes folders one of the name that its socket's has
    monkeypatch.setattr(tempfile, "tempdir", str(own_folder))
    settings = Settings.load(data_dir=own_folder / ("x" * 100))
    folder = settings.redis_socket.parent
    assert folder.parent == own_folder and settings.redis == f"unix://{folder}/redis.sock"
    # Then it is asked where it is our own, and not where others may write in it or it leads elsewhere
    folder.mkdir(mode=0o700)
    assert settings.redis == f"unix://{folder}/redis.sock"
    folder.chmod(0o770)
    with pytest.raises(QueueUnavailable, match="--data-dir"):
        settings.redis  # noqa: B018 - asking is what is refused
    folder.rmdir()
    (own_folder / "theirs").mkdir(mode=0o700)
    folder.symlink_to(own_folder / "theirs")
    with pytest.raises(QueueUnavailable, match="somebody else's"):
        settings.redis  # noqa: B018 - asking is what is refused
    if os.getuid() == 0:  # nobody else can give a folder away
        folder.unlink()
        folder.mkdir(mode=0o700)
        os.chown(folder, 65534, 65534)
        with pytest.raises(QueueUnavailable, match="somebody else's"):
            settings.redis  # noqa: B018 - asking is what is refused
        # When it is of whoever owns the data, then an administrator asks it too
        settings.data_dir.mkdir()
        os.chown(settings.data_dir, 65534, 65534)
        assert settings.redis == f"unix://{folder}/redis.sock"


def test_the_limit_of_a_sockets_path_is_counted_in_bytes() -> None:
    fits = Path("/" + "x" * (100 - len("//redis.sock")))
    assert Settings.load(data_dir=fits).redis_socket == fits / "redis.sock"
    longer = Path(str(fits)[:-1] + "ü")
    assert Settings.load(data_dir=longer).redis_socket != longer / "redis.sock"


@pytest.mark.parametrize(
    ("given", "kombu"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("rediss://user:pass@queue:6380/1", "rediss://user:pass@queue:6380/1"),
        ("redis+sentinel://one:26379/mill", "sentinel://one:26379/0"),
        ("redis+sentinel://one:1,two/mill/3", "sentinel://one:1/3;sentinel://two:26379/3"),
        (
            "redis+sentinel://miller:p%40s%3Bs@one,[::1]:2/mill",
            "sentinel://miller:p%40s%3Bs@one:26379/0;sentinel://miller:p%40s%3Bs@[::1]:2/0",
        ),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock"),
        ("unix:///run/redis.sock?db=3", "redis+socket:///run/redis.sock?db=3"),
    ],
)
def test_a_redis_url_is_spelled_as_the_broker_spells_it(given: str, kombu: str) -> None:
    assert broker_url(given) == kombu
    assert celery_settings(given)["broker_url"] == kombu


def test_the_broker_carries_json_acknowledges_late_and_keeps_no_results() -> None:
    settings = celery_settings("redis://localhost")
    assert settings["accept_content"] == ["json"] and settings["task_serializer"] == "json"
    assert settings["task_acks_late"] is True and settings["result_backend"] is None
    assert settings["broker_transport_options"]["global_keyprefix"] == KEY_PREFIX


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "rediss://user:pass@queue:6380/1",
        "unix:///run/redis.sock?db=3",
        "redis+sentinel://one:26379,two:26379,three:26379/mill",
        "redis+sentinel://:secret@one/mill/2",
    ],
)
def test_every_kind_of_redis_url_is_a_setting_and_makes_a_client(url: str) -> None:
    assert Settings.load(redis_url=url).redis == url
    redis_client(url).close()


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://",
        "redis+sentinel://one:26379",
        "redis+sentinel://one:26379/",
        "redis+sentinel:///mill",
        "redis+sentinel://one,,two/mill",
        "redis+sentinel://one:0/mill",
        "redis+sentinel://one:99999/mill",
        "redis+sentinel://one:port/mill",
        "redis+sentinel://one/mill/first",
        "redis+sentinel://one/mill/1/2",
        "sentinel://one:26379/mill",
        "http://one",
    ],
)
def test_a_redis_url_that_cannot_be_meant_is_refused_with_how_to_write_it(url: str) -> None:
    with pytest.raises(InvalidOption, match=r"EMBEDMILL_REDIS_URL") as raised:
        Settings.load(redis_url=url)
    assert "redis+sentinel://host1:26379" in str(raised.value) or "Port" in str(raised.value)


def test_what_a_sentinel_url_says_is_read_and_unquoted() -> None:
    url = SentinelURL.parse("redis+sentinel://miller:p%40s%2Fs@one:1,two/the%20mill/3")
    assert url == SentinelURL((("one", 1), ("two", 26379)), "the mill", 3, "miller", "p@s/s")
    assert celery_settings("redis+sentinel://one/the%20mill")["broker_transport_options"]["master_name"] == "the mill"


def test_senders_wait_for_redis_no_longer_than_somebody_waits_for_them() -> None:
    for url in ("redis://localhost", "redis+sentinel://one,two,three/mill"):
        options = sender_settings(url)["broker_transport_options"]
        assert options["max_retries"] == 0 and not options["retry_on_timeout"]
        assert options["socket_timeout"] <= 1 and options["socket_connect_timeout"] <= 1
        assert celery_settings(url)["broker_transport_options"]["socket_timeout"] > 1


def test_a_setting_is_taken_from_the_file_that_is_named_for_it(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own_folder / "place").write_text("postgresql://miller@db/mill\n")
    monkeypatch.setenv("EMBEDMILL_DATABASE_URL_FILE", str(own_folder / "place"))
    assert Settings.load().database == "postgresql://miller@db/mill"
    # The variable itself comes before its file, and a flag before both
    monkeypatch.setenv("EMBEDMILL_DATABASE_URL", "postgresql://miller@other/mill")
    assert Settings.load().database == "postgresql://miller@other/mill"
    assert Settings.load(database_url="sqlite:///flag.db").database == "sqlite:///flag.db"


def test_a_folder_names_no_file_that_is_read(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a folder of somebody else's, which names a service of his and a file of ours
    (own_folder / "token").write_text("grindstone")
    (own_folder / ".env").write_text(
        f"EMBEDMILL_URL=https://miller.example\nEMBEDMILL_API_KEY_FILE={own_folder}/token\n"
    )
    # Then nothing is read, whatever the environment says of it
    with pytest.raises(InvalidOption, match=r"EMBEDMILL_API_KEY_FILE stands in \.env.*environment"):
        Settings.load()
    monkeypatch.setenv("EMBEDMILL_API_KEY_FILE", str(own_folder / "token"))
    with pytest.raises(InvalidOption, match="EMBEDMILL_API_KEY_FILE"):
        Settings.load()


@pytest.mark.parametrize(
    ("address", "secret", "place"),
    [
        ("URL", "API_KEY", "https://miller.example"),
        ("REDIS_URL", "REDIS_PASSWORD", "redis://mill@miller.example"),
        ("DATABASE_URL", "DATABASE_PASSWORD", "postgresql://mill@miller.example/mill"),
    ],
)
def test_a_secret_of_ones_own_does_not_go_to_an_address_that_a_folder_names(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch, address: str, secret: str, place: str
) -> None:
    # Given a secret in the environment, as itself or as a file, and a folder that names an address
    (own_folder / "secret").write_text("grindstone")
    for variable, value in ((secret, "grindstone"), (f"{secret}_FILE", str(own_folder / "secret"))):
        (own_folder / ".env").write_text(f"EMBEDMILL_{address}={place}\n")
        with monkeypatch.context() as patch:
            patch.setenv(f"EMBEDMILL_{variable}", value)
            # Then neither is used, even where the folder has such a secret too
            for more in ("", f"EMBEDMILL_{secret}=chaff\n"):
                (own_folder / ".env").write_text(f"EMBEDMILL_{address}={place}\n{more}")
                with pytest.raises(InvalidOption, match=rf"EMBEDMILL_{address} stands in \.env") as refused:
                    Settings.load()
                assert "grindstone" not in str(refused.value)
            # When the address is ours too, all is well
            patch.setenv(f"EMBEDMILL_{address}", place)
            assert getattr(Settings.load(), secret.lower()).get_secret_value() == "grindstone"
    # And where the folder has both they belong together
    (own_folder / ".env").write_text(f"EMBEDMILL_{address}={place}\nEMBEDMILL_{secret}=chaff\n")
    settings = Settings.load()
    assert getattr(settings, address.lower()) == place
    assert getattr(settings, secret.lower()).get_secret_value() == "chaff"


def test_a_sqlite_file_that_a_folder_names_is_shown_no_password(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a password for some PostgreSQL in the environment, and a folder that names a file
    monkeypatch.setenv("EMBEDMILL_DATABASE_PASSWORD", "grindstone")
    (own_folder / ".env").write_text("EMBEDMILL_DATABASE_URL=sqlite:///mill.sqlite3\n")
    # Then that is taken, without the password
    assert Settings.load().database == "sqlite:///mill.sqlite3"


@pytest.mark.parametrize(
    ("content", "told"), [(None, "cannot be read"), (b" \n", "is empty"), (b"\xff\xfe", "is not UTF-8")]
)
def test_a_file_that_gives_no_value_is_told_by_its_variable_and_place(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, told: str
) -> None:
    if content is not None:
        (own_folder / "secret").write_bytes(content)
    monkeypatch.setenv("EMBEDMILL_REDIS_PASSWORD_FILE", str(own_folder / "secret"))
    with pytest.raises(InvalidOption, match=rf"EMBEDMILL_REDIS_PASSWORD_FILE .*{told}.*{own_folder}/secret"):
        Settings.load()


@pytest.mark.parametrize(
    ("url", "with_password"),
    [
        ("redis://mill@queue:6379/0", "redis://mill:p%40s%3A%2F%20%25@queue:6379/0"),
        ("rediss://queue/1?ssl_cert_reqs=required", "rediss://:p%40s%3A%2F%20%25@queue/1?ssl_cert_reqs=required"),
        ("redis://mill:old@[::1]:6379", "redis://mill:p%40s%3A%2F%20%25@[::1]:6379"),
        ("redis+sentinel://mill@one:1,two/mill/3", "redis+sentinel://mill:p%40s%3A%2F%20%25@one:1,two/mill/3"),
        ("unix:///run/redis.sock?db=3", "unix://:p%40s%3A%2F%20%25@/run/redis.sock?db=3"),
    ],
)
def test_a_password_of_its_own_becomes_part_of_redis_url_and_is_read_back_from_it(url: str, with_password: str) -> None:
    settings = Settings(redis_url=url, redis_password=SecretStr("p@s:/ %"))
    assert settings.redis == with_password
    with redis_client(settings.redis) as client:
        assert client.connection_pool.connection_kwargs["password"] == "p@s:/ %"


@pytest.mark.parametrize("url", ["postgresql://mill@db:5432/mill?sslmode=require", "postgresql://mill@/mill?host=/run"])
def test_a_password_of_its_own_becomes_part_of_the_databases_url(url: str) -> None:
    read = make_url(Settings(database_url=url, database_password=SecretStr("p@s:/ %")).database)
    assert (read.username, read.password, read.database) == ("mill", "p@s:/ %", "mill")
    assert dict(read.query) == dict(make_url(url).query)


def test_a_sqlite_file_has_no_password_and_a_password_is_never_shown() -> None:
    settings = Settings(database_url="sqlite:///mill.db", database_password=SecretStr("grindstone"))
    assert settings.database == "sqlite:///mill.db"
    assert "grindstone" not in repr(settings)


@pytest.mark.parametrize("folder", ["~nobody-of-that-name/mill", "~nobody-of-that-name"])
def test_a_home_folder_that_nobody_has_is_told_as_such(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given the home folder of a user who is not there, by flag and by variable, then it is named with what to do
    with pytest.raises(InvalidOption, match=r"is not known here.*--data-dir"):
        Settings.load(data_dir=folder)
    monkeypatch.setenv("EMBEDMILL_DATA_DIR", folder)
    with pytest.raises(InvalidOption, match=folder):
        Settings.load()
