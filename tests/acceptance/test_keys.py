"""Keys on the command line: made once, listed, revoked."""

from __future__ import annotations

import json
import re

import pytest

from embedmill import Client
from storage.contract.errors import Unauthorized
from storage.contract.settings import Settings
from storage.stores import Stores
from tests.acceptance.shell import Shell


def test_a_key_is_printed_alone_once_listed_and_revoked(alone: Shell) -> None:
    # When a key is made
    limits = ("--max-texts", 1000, "--max-jobs", 3, "--tokens-per-minute", 60_000, "--max-stored-bytes", 5_000)
    made = alone("keys", "create", "nightly import", "--scopes", "read,embed", "--expires-in", 3600, *limits)
    assert made.code == 0, made.err
    # Then it stands alone on stdout
    match = re.fullmatch(r"em_([a-z2-7]+)_[a-z2-7]{26,}\n", made.out)
    assert match and "cannot be shown again" in made.err
    key, key_id = made.out.strip(), match[1]
    stores = Stores.open(Settings.load(data_dir=alone.data_dir))
    found = stores.keys.find(key)
    assert (found.id, found.scopes) == (key_id, {"read", "embed"})
    # And it is listed without its secret, for people and for programs
    told, listed = alone.together([("keys", "list"), ("keys", "list", "--json")])
    assert key_id in told.out and "nightly import" in told.out and "1,000 texts" in told.out
    assert "last used (UTC)" in told.out
    (one,) = [json.loads(line) for line in listed.out.splitlines()]
    assert (one["id"], one["name"], one["scopes"]) == (key_id, "nightly import", ["read", "embed"])
    assert (one["max_texts"], one["max_jobs"], one["tokens_per_minute"]) == (1000, 3, 60_000)
    assert one["max_stored_bytes"] == 5_000
    assert key.rpartition("_")[2] not in told.out + told.err + listed.out + listed.err
    # When revoked, then it is good for nothing, and a second time is no error
    assert [alone("keys", "revoke", key_id).code for _ in range(2)] == [0, 0]
    with pytest.raises(Unauthorized):
        stores.keys.find(key)
    stores.database.close()
    assert "revoked" in alone("keys", "list").out


def test_what_cannot_be_a_key_is_refused_with_the_reason(alone: Shell) -> None:
    bad = [
        (("keys", "create", ""), "name"),
        (("keys", "create", "x", "--scopes", "rule"), "read, write, embed, admin"),
        (("keys", "create", "x", "--scopes", ""), "read, write, embed, admin"),
        (("keys", "create", "x", "--expires-in", -1), "seconds"),
        (("keys", "create", "x", "--max-jobs", 0), "at least 1"),
        (("keys", "create", "x", "--max-jobs", "many"), "max-jobs"),
        (("keys", "revoke", "nobody"), "no key"),
        (("keys", "create"), "NAME"),
        (("keys", "mint"), "mint"),
    ]
    with Client(data_dir=alone.data_dir):
        pass  # it makes the database
    for (words, reason), ran in zip(bad, alone.together([words for words, _ in bad]), strict=True):
        assert ran.code == 2 and ran.out == "" and reason in ran.err, (words, ran)
        assert "Traceback" not in ran.err
    assert "There are no keys" in alone("keys", "list").err
