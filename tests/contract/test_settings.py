"""Settings: flag > environment > `.env` > default."""

import os
from pathlib import Path

import pytest

from storage.contract.broker import KEY_PREFIX, broker_url, celery_settings, sender_settings
from storage.contract.errors import InvalidOption
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
