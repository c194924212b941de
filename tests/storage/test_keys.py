"""API keys in storage: what is kept of them, which are good, and that nobody can tell why one is not."""

from __future__ import annotations

import re
import time

import pytest
from sqlalchemy import select, update

from storage.contract.errors import InvalidOption, NotFound, Unauthorized
from storage.database import Database, now_ms
from storage.quotas import Quota
from storage.stores import Stores
from storage.tables import KeyRow


def age(database: Database, key_id: str, **columns: int) -> None:
    """Set times of a key so many milliseconds from now, as the passing of time would."""
    with database.write() as connection:
        moved = {name: now_ms() + by for name, by in columns.items()}
        assert connection.execute(update(KeyRow).where(KeyRow.id == key_id).values(moved)).rowcount == 1


def refusal(stores: Stores, key: str) -> tuple[str, str]:
    """Return code and words with which a key is refused."""
    with pytest.raises(Unauthorized) as refused:
        stores.keys.find(key)
    return refused.value.code, str(refused.value)


def test_a_new_key_is_found_by_itself_with_all_that_was_said_of_it(stores: Stores) -> None:
    # When a key is made
    quota = Quota(texts=1000, jobs=3, tokens_per_minute=60_000, stored_bytes=10**9)
    made, key = stores.keys.create("nightly import", ["embed", "read"], expires_in=3600, quota=quota)
    # Then it has the form that programs look for, with at least 128 random bits
    assert re.fullmatch(rf"em_{made.id}_[a-z2-7]{{32}}", key) and "_" not in made.id
    # And it is found, good for what was asked and as long
    found = stores.keys.find(key)
    assert (found.id, found.name, found.scopes, found.quota) == (made.id, "nightly import", {"read", "embed"}, quota)
    # (the database reads its clock once for each of the two times)
    assert found.expires_at is not None and 3_500_000 < found.expires_at - found.created_at < 3_700_000


def test_a_key_may_do_all_but_govern_when_nothing_else_is_said(stores: Stores) -> None:
    made, _ = stores.keys.create("plain")
    assert (made.scopes, made.quota, made.expires_at) == ({"read", "write", "embed"}, Quota(), None)


def test_no_secret_is_kept(stores: Stores, database: Database) -> None:
    _, key = stores.keys.create("quiet")
    secret = key.rpartition("_")[2]
    with database.read() as connection:
        kept = repr(connection.execute(select(KeyRow.__table__)).all())
    assert secret not in kept and secret.encode().hex() not in kept
    assert secret not in repr(stores.keys.all()) + str(stores.keys.all()[0].to_dict())


def test_whatever_is_wrong_with_a_key_it_is_refused_in_the_same_words(stores: Stores, database: Database) -> None:
    # Given a revoked key, one that has expired, and one that is good
    revoked, revoked_key = stores.keys.create("revoked")
    expired, expired_key = stores.keys.create("expired", expires_in=60)
    good, good_key = stores.keys.create("good")
    assert stores.keys.find(revoked_key).id == revoked.id and stores.keys.find(expired_key).id == expired.id
    stores.keys.revoke(revoked.id)
    age(database, expired.id, expires_at=-1)
    # When these are shown, and unknown and malformed ones
    other_secret = good_key[:-1] + ("a" if good_key[-1] != "a" else "b")
    unknown = f"em_{'a' * 16}_{'b' * 32}"
    odd = [
        "",
        " ",
        "em_",
        "em__",
        good_key.upper(),
        good_key + "\n",
        good_key[:-1],
        "\0",
        "é" * 52,
        "\ud800",
        "x" * 10**6,
    ]
    # Then each is refused in the same words, which repeat nothing of it
    told = {refusal(stores, key) for key in (revoked_key, expired_key, other_secret, unknown, *odd)}
    assert len(told) == 1
    code, words = told.pop()
    assert code == "invalid_api_key" and good.id not in words
    # And the good one still is
    assert stores.keys.find(good_key).id == good.id


def test_to_revoke_a_key_twice_changes_nothing_and_an_unknown_one_is_not_found(stores: Stores) -> None:
    made, _ = stores.keys.create("once")
    assert stores.keys.revoke(made.id) is True
    at = stores.keys.get(made.id).revoked_at
    assert stores.keys.revoke(made.id) is False and stores.keys.get(made.id).revoked_at == at
    for nobody in ("", "nobody", "\0", made.id + "x"):
        with pytest.raises(NotFound):
            stores.keys.revoke(nobody)


def test_all_keys_are_listed_oldest_first_the_revoked_ones_too(stores: Stores) -> None:
    ids = []
    for name in ("first", "second", "third"):
        ids.append(stores.keys.create(name)[0].id)
        time.sleep(0.002)
    stores.keys.revoke(ids[1])
    listed = stores.keys.all()
    assert [key.id for key in listed] == ids and [key.is_good for key in listed] == [True, False, True]


def test_the_last_use_is_noted_once_a_minute(stores: Stores, database: Database) -> None:
    # Given a key that was never used
    made, key = stores.keys.create("busy")
    assert made.last_used_at is None
    # When it is used, that is noted
    stores.keys.note_use(stores.keys.find(key))
    first = stores.keys.get(made.id).last_used_at
    assert first is not None
    # When used again within the minute, by one who knows and one who does not, then nothing is written
    stores.keys.note_use(stores.keys.find(key))
    stores.keys.note_use(made)
    assert stores.keys.get(made.id).last_used_at == first
    # When a minute has passed, it is noted again
    age(database, made.id, last_used_at=-60_001)
    stores.keys.note_use(stores.keys.find(key))
    assert (stores.keys.get(made.id).last_used_at or 0) >= first


@pytest.mark.parametrize(
    "given",
    [
        {"name": ""},
        {"name": "  "},
        {"name": "x" * 201},
        {"name": "a\0b"},
        {"name": "\ud800"},
        {"scopes": []},
        {"scopes": ["read", "rule"]},
        {"expires_in": 0},
        {"expires_in": -1},
        {"expires_in": float("nan")},
        {"expires_in": float("inf")},
    ],
)
def test_what_cannot_be_a_key_is_refused_and_none_is_made(stores: Stores, given: dict[str, object]) -> None:
    with pytest.raises(InvalidOption):
        stores.keys.create(**({"name": "fine"} | given))  # type: ignore[arg-type]
    assert stores.keys.all() == []


@pytest.mark.parametrize("limit", [0, -1, 10**16])
def test_a_limit_that_is_none_is_refused(limit: int) -> None:
    for name in ("texts", "jobs", "tokens_per_minute", "stored_bytes"):
        with pytest.raises(InvalidOption):
            Quota(**{name: limit})
