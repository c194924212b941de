"""Who streams lines is answered once his key may submit so many; if he goes meanwhile, nothing of them is left."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from sqlalchemy import update

from producer.api.settings import ApiSettings
from storage.quotas import Quota
from storage.tables import QuotaRow
from tests.acceptance.shell import until
from tests.service.serving import Served, serving
from tests.service.test_native_streams import NDJSON, lines, unsealed
from tests.storage.builders import CARD, serve
from tests.storage.test_quotas import freeze

#: Lines that are written in several transactions.
BODY = lines(*["wheat " * 170] * 2_200)


@pytest.fixture
def keyed_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service with keys over an empty database of its own, which knows a model and has no worker."""
    settings = ApiSettings.load(data_dir=tmp_path_factory.mktemp("alone"), model=CARD.name, auth="keys")
    with serving(settings) as served:
        serve(served.service.stores)
        yield served


@pytest.fixture
def indebted(keyed_alone: Served) -> str:
    """A key for sixty tokens a minute that owes one, and whose bucket does not leak."""
    stores = keyed_alone.service.stores
    key, secret = stores.keys.create("indebted", quota=Quota(tokens_per_minute=60))
    with stores.database.write() as connection:
        connection.execute(update(QuotaRow).where(QuotaRow.key_id == key.id).values(owed=1.0))
    freeze(stores.database, key.id)
    return secret


def test_a_stream_is_answered_once_its_key_may_submit_so_much(keyed_alone: Served, indebted: str) -> None:
    database = keyed_alone.service.stores.database
    with keyed_alone.http(indebted) as asked, ThreadPoolExecutor(1) as thread:
        # Given lines that are all there, and may not be submitted yet
        answer = thread.submit(asked.post, "/v1/jobs", content=BODY, headers=NDJSON)
        until(lambda: unsealed(keyed_alone), "the job that takes texts")
        # When the debt is paid
        with database.write() as connection:
            connection.execute(update(QuotaRow).values(owed=0.0))
        # Then they are a job
        assert answer.result(60).status_code == 202, answer.result().text
        assert answer.result().json()["total"] == 2_200


def test_of_a_sender_who_goes_while_he_waits_nothing_is_left(keyed_alone: Served, indebted: str) -> None:
    # Given one who has sent all his lines and waits
    address = urlsplit(keyed_alone.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port)
    headers = NDJSON | {"Authorization": f"Bearer {indebted}"}
    connection.request("POST", "/v1/jobs", body=BODY, headers=headers)
    until(lambda: unsealed(keyed_alone), "the job that takes texts")
    # When he goes
    connection.close()
    # Then so does what he has sent
    until(lambda: not unsealed(keyed_alone), "the end of what was sent")
