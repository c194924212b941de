"""`/v1/files` and `/v1/uploads`, asked by the `openai` package itself."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import httpx
import openai as sdk
import pytest
from openai import OpenAI

from producer.api.settings import ApiSettings
from storage.filewriter import BLOCK
from tests.service.serving import Served, serving

CONTENT = b'{"custom_id": "wheat"}\n' * 150_000
NOBODY = "file-" + "0" * 32


def test_a_file_comes_back_as_it_was_sent(openai: OpenAI) -> None:
    # Given a file of several blocks
    assert len(CONTENT) > 3 * BLOCK
    sent = openai.files.create(file=("grain.jsonl", CONTENT), purpose="batch")
    # Then what is known of it is right
    assert (sent.bytes, sent.filename, sent.purpose, sent.status) == (len(CONTENT), "grain.jsonl", "batch", "processed")
    assert (sent.model_extra or {})["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert openai.files.retrieve(sent.id) == sent
    assert openai.files.wait_for_processing(sent.id).id == sent.id
    # And its bytes are
    assert openai.files.content(sent.id).read() == CONTENT
    # And when it is deleted it is gone
    assert openai.files.delete(sent.id).deleted
    with pytest.raises(sdk.NotFoundError):
        openai.files.retrieve(sent.id)


def test_files_are_listed_page_by_page_in_either_order(openai: OpenAI) -> None:
    made = [openai.files.create(file=(f"{number}.jsonl", b"{}"), purpose="batch").id for number in range(5)]
    newest = [file.id for file in openai.files.list(limit=2, purpose="batch")]
    assert newest[:5] == made[::-1]
    oldest = [file.id for file in openai.files.list(limit=2, order="asc", after=made[1])]
    assert oldest[:3] == made[2:5]
    page = openai.files.list(limit=2)
    assert page.has_more and len(page.data) == 2
    assert list(openai.files.list(purpose="vision")) == []


def test_a_file_may_be_kept_for_a_while_only(openai: OpenAI) -> None:
    kept = openai.files.create(
        file=io.BytesIO(b"{}"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert kept.expires_at is not None and abs(kept.expires_at - kept.created_at - 3600) <= 1


def test_an_upload_in_parts_becomes_one_file(openai: OpenAI) -> None:
    sent = openai.uploads.upload_file_chunked(
        file=CONTENT,
        filename="large.jsonl",
        bytes=len(CONTENT),
        mime_type="application/jsonl",
        purpose="batch",
        part_size=1_500_000,
        md5=hashlib.md5(CONTENT).hexdigest(),
    )
    assert sent.status == "completed" and sent.file is not None
    assert (sent.file.bytes, sent.file.filename) == (len(CONTENT), "large.jsonl")
    assert openai.files.content(sent.file.id).read() == CONTENT
    openai.files.delete(sent.file.id)


def test_an_upload_takes_what_was_announced_and_nothing_after_its_end(openai: OpenAI) -> None:
    upload = openai.uploads.create(bytes=4, filename="a.jsonl", mime_type="text/plain", purpose="batch")
    assert upload.status == "pending" and upload.expires_at == upload.created_at + 3600
    two = openai.uploads.parts.create(upload.id, data=b"34")
    one = openai.uploads.parts.create(upload.id, data=b"12")
    with pytest.raises(sdk.NotFoundError):
        openai.uploads.complete(upload.id, part_ids=[one.id, "part_0"])
    for parts, md5 in (([one.id], None), ([one.id, one.id], None), ([one.id, two.id], "0")):
        with pytest.raises(sdk.BadRequestError):
            openai.uploads.complete(upload.id, part_ids=parts, **({"md5": md5} if md5 else {}))
    done = openai.uploads.complete(upload.id, part_ids=[one.id, two.id])
    assert done.file is not None and openai.files.content(done.file.id).read() == b"1234"
    with pytest.raises(sdk.ConflictError):
        openai.uploads.parts.create(upload.id, data=b"5")
    with pytest.raises(sdk.ConflictError):
        openai.uploads.cancel(upload.id)


def test_an_upload_takes_no_more_than_twice_what_was_announced(openai: OpenAI) -> None:
    upload = openai.uploads.create(bytes=4, filename="a.jsonl", mime_type="text/plain", purpose="batch")
    for _ in range(2):
        openai.uploads.parts.create(upload.id, data=b"1234")
    with pytest.raises(sdk.APIStatusError, match="announced") as caught:
        openai.uploads.parts.create(upload.id, data=b"5")
    assert caught.value.status_code == 413


def test_an_upload_that_is_cancelled_twice_is_cancelled(openai: OpenAI) -> None:
    upload = openai.uploads.create(bytes=4, filename="a.jsonl", mime_type="text/plain", purpose="batch")
    openai.uploads.parts.create(upload.id, data=b"1234")
    assert openai.uploads.cancel(upload.id).status == "cancelled"
    assert openai.uploads.cancel(upload.id).status == "cancelled"


@pytest.mark.parametrize(
    ("fields", "files", "word"),
    [
        ({"purpose": "batch"}, {"nofile": b"x"}, "no file"),
        ({"purpose": "vision"}, {"file": b"x"}, "purpose batch"),
        ({}, {"file": b"x"}, "purpose is missing"),
        ({"purpose": "batch", "expires_after[seconds]": "1"}, {"file": b"x"}, "anchor"),
        ({"purpose": "b" * 20_000}, {"file": b"x"}, "too long"),
        ({"purpose": "batch"} | {f"sack-{number}": "" for number in range(30)}, {"file": b"x"}, "30 fields"),
    ],
)
def test_a_form_that_cannot_be_used_is_refused_and_leaves_nothing(
    http: httpx.Client, served: Served, fields: dict[str, str], files: dict[str, bytes], word: str
) -> None:
    answer = http.post("/v1/files", data=fields, files=files)
    assert answer.status_code == 400 and word in answer.json()["error"]["message"]
    assert writing(served) == 0


def test_what_is_no_form_or_ends_early_is_refused(http: httpx.Client, served: Served) -> None:
    assert http.post("/v1/files", json={}).status_code == 400
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    for body in (b"", b"rye", b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nrye'):
        assert http.post("/v1/files", content=body, headers=form).status_code == 400
    assert writing(served) == 0


def test_an_id_that_nobody_has_is_not_found(http: httpx.Client) -> None:
    for file_id in (NOBODY, "x", "file-%00"):
        assert http.get(f"/v1/files/{file_id}").status_code == 404
        assert http.get(f"/v1/files/{file_id}/content").status_code == 404
        assert http.delete(f"/v1/files/{file_id}").status_code == 404
    assert http.post("/v1/uploads/upload_0/cancel").status_code == 404


def test_a_file_that_is_too_large_is_refused_while_it_arrives(tmp_path: Path) -> None:
    with serving(ApiSettings.load(data_dir=tmp_path, max_file_bytes=2_000_000)) as small, small.http() as http:
        answer = http.post("/v1/files", data={"purpose": "batch"}, files={"file": b"x" * 2_000_001})
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
        assert writing(small) == 0
        assert http.post("/v1/files", data={"purpose": "batch"}, files={"file": b"x" * 2_000_000}).status_code == 200


def writing(served: Served) -> int:
    with served.service.stores.database.read() as connection:
        unseen = connection.exec_driver_sql("SELECT count(*) FROM files WHERE state = 'writing'").scalar_one()
        orphans = connection.exec_driver_sql(
            "SELECT count(*) FROM file_blocks WHERE file_id NOT IN (SELECT id FROM files)"
        ).scalar_one()
    return int(unseen) + int(orphans)


def test_a_truth_value_is_no_size_of_an_upload(http: httpx.Client) -> None:
    asked = {"filename": "b.jsonl", "purpose": "batch", "mime_type": "application/jsonl", "bytes": True}
    assert http.post("/v1/uploads", json=asked).status_code == 400
