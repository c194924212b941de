"""Sessions of the page: signed by a secret of the day, which nobody believes for long after it."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import sha256

import pytest
from sqlalchemy import select

from producer.api.sessions import LIFE, form_token, is_form_token, key_of_session, new_session
from storage.clock import Clock
from storage.contract.errors import ServerError, StorageFull, StorageUnavailable
from storage.stores import Stores
from storage.tables import SecretRow

#: Ten in the evening of some day, in seconds since 1970.
EVENING = 20_000 * 86_400 + 22 * 3600


def at(patch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let the database's clock show so many seconds after that evening."""
    patch.setattr(Clock, "now", lambda clock: EVENING + seconds)


def stolen(stores: Stores) -> list[bytes]:
    """Return the secrets that whoever reads the database, or keeps a backup of it, finds there."""
    with stores.database.read() as connection:
        return [bytes(value) for value in connection.execute(select(SecretRow.value)).scalars()]


def forged(secret: bytes, key_id: str, ends: float) -> str:
    """Return the cookie that somebody makes who has a secret and knows the code."""
    claim = f"{key_id}.{int(ends)}"
    signature = hmac.new(secret, b"session\n" + claim.encode(), sha256).hexdigest()
    return f"{claim}.{signature}"


def test_a_session_lasts_twelve_hours_over_midnight_and_so_do_its_forms(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given somebody who signs in before midnight, with a form in front of him
    at(monkeypatch, 0)
    session = new_session(stores, "miller")
    token = form_token(stores, session)
    # Then he is signed in for twelve hours, also in the new day, which signs with another secret
    for seconds in (0, 3 * 3600, LIFE - 1):
        at(monkeypatch, seconds)
        assert key_of_session(stores, session) == "miller"
        assert is_form_token(stores, session, token) and is_form_token(stores, session, form_token(stores, session))
    assert len(stolen(stores)) == 2
    # And no longer
    at(monkeypatch, LIFE)
    assert key_of_session(stores, session) is None
    # And a form of others is none of his
    assert not is_form_token(stores, "", token) and not is_form_token(stores, session, "\ud800")


def test_every_process_signs_with_the_same_secret(stores: Stores, open_again: Callable[[], Stores]) -> None:
    assert key_of_session(open_again(), new_session(stores, "miller")) == "miller"


def test_an_old_backup_signs_nobody_in(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a backup of a database in which somebody had signed in
    at(monkeypatch, 0)
    new_session(stores, "miller")
    (secret,) = stolen(stores)
    assert key_of_session(stores, forged(secret, "admin", EVENING + 60)) == "admin"
    # When it is found two days later, then a cookie that is made with it is not believed, used in the meantime or not
    at(monkeypatch, 2 * 86_400)
    assert key_of_session(stores, forged(secret, "admin", EVENING + 3 * 86_400)) is None
    new_session(stores, "miller")
    assert key_of_session(stores, forged(secret, "admin", EVENING + 3 * 86_400)) is None


def test_a_database_that_is_full_at_midnight_ends_no_session_and_no_form(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a session of the evening, and a database that takes no row after midnight
    at(monkeypatch, 0)
    session = new_session(stores, "miller")

    def full(*_: object) -> bytes:
        raise StorageFull("There is no room.")

    monkeypatch.setattr(type(stores.secrets), "_make", full)
    # When the page is looked at then, late in the day too, then its forms are good
    for seconds in (3 * 3600, 23 * 3600):
        at(monkeypatch, seconds)
        assert is_form_token(stores, session, form_token(stores, session))


@pytest.mark.parametrize("error", [StorageFull("There is no room."), StorageUnavailable("It is read-only.")])
def test_where_the_database_takes_no_secret_and_has_none_the_page_works_with_one_of_its_own(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, error: ServerError
) -> None:
    at(monkeypatch, 0)
    with monkeypatch.context() as patch:
        # Given a database that takes no row and has no secret of the day before
        def refused(*_: object) -> bytes:
            raise error

        patch.setattr(type(stores.secrets), "_make", refused)
        # When somebody signs in, then his session and his forms are good
        session = new_session(stores, "miller")
        token = form_token(stores, session)
        assert key_of_session(stores, session) == "miller" and is_form_token(stores, session, token)
    # And stay so once it takes rows again, over midnight too, but not for ever
    new_session(stores, "baker")
    at(monkeypatch, 3 * 3600)
    assert key_of_session(stores, session) == "miller" and is_form_token(stores, session, token)
    at(monkeypatch, 86_400)
    assert key_of_session(stores, session) is None and not is_form_token(stores, session, token)


def test_whoever_has_not_signed_in_makes_no_secret(stores: Stores) -> None:
    assert key_of_session(stores, "miller.99999999999.00") is None
    assert stolen(stores) == []
