"""What is to be seen of a batch's files, and when."""

from __future__ import annotations

import json
from pathlib import Path

from sqlalchemy import event

from producer.api.openai.batchwork import BatchWork
from producer.api.settings import ApiSettings
from producer.client import Client
from storage.stores import Stores
from tests.storage.builders import CARD, serve


def test_nobody_sees_the_files_of_a_batch_before_its_end(tmp_path: Path) -> None:
    settings = ApiSettings.load(data_dir=tmp_path, model=CARD.name)
    with Client(settings=settings) as client:
        stores, others = client.stores, Stores.open(settings)
        serve(stores)
        # Given a batch that is under way, and is cancelled
        body = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"input": "wheat"}}
        file = stores.files.open("grain.jsonl", "batch")
        file.write(json.dumps(body).encode())
        file.close()
        batch = stores.batches.create(file.id, "/v1/embeddings", "24h", 86_400)
        work = BatchWork(client, settings)
        work.look()
        assert stores.batches.cancel(batch.id).state == "in_progress"
        # When its files are written, and somebody else looks at each step from then on
        seen: list[tuple[str, int]] = []

        def look(*told: object) -> None:
            if str(told[2]).startswith("UPDATE"):
                seen.append((others.batches.get(batch.id).state, len(others.files.page(10, purpose="batch_output"))))

        event.listen(stores.database.engine, "before_cursor_execute", look)
        work.look()
        event.remove(stores.database.engine, "before_cursor_execute", look)
        # Then he sees them with its end, and not before
        assert ("finalizing", 0) in seen and ("cancelled", 1) in seen
        assert {files for state, files in seen if state in ("in_progress", "finalizing")} == {0}
        others.database.close()
