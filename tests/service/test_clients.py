"""Programs written for OpenAI and for TEI, at work against a running stack by its address alone."""

from __future__ import annotations

import json
import time

import numpy as np
import openai
import pytest
import tiktoken
from numpy.typing import NDArray

from tests.service.serving import Served

# Clients that hold connections open for the next call are let go of, without closing, when their test ends.
pytestmark = [pytest.mark.usefixtures("quiet"), pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]

TEXTS = ["The kettle has been singing.", "磨坊在河边。", "wheat", "best soup for a cold evening"]


@pytest.fixture(scope="module")
def expected(served: Served) -> NDArray[np.float32]:
    """The vectors of `TEXTS` by our own route."""
    with served.http() as http:
        job = http.post("/v1/jobs", json={"texts": TEXTS, "priority": "urgent"}).json()
        served.service.client.job(job["id"]).wait(60)
        items = http.get(f"/v1/jobs/{job['id']}/results").json()["data"]
        http.delete(f"/v1/jobs/{job['id']}")
    return np.array([item["vector"] for item in items], dtype=np.float32)


@pytest.fixture
def model(served: Served) -> str:
    """The name of the model that is served."""
    return served.service.settings.model


def same(found: object, expected: NDArray[np.float32]) -> None:
    """Check that vectors are the same to the last bit."""
    np.testing.assert_array_equal(np.array(found, dtype=np.float32), expected)


def test_langchain_embeds_when_told_to_send_texts(served: Served, model: str, expected: NDArray[np.float32]) -> None:
    # Given LangChain's embeddings for OpenAI
    from langchain_openai import OpenAIEmbeddings

    embeddings = OpenAIEmbeddings(
        base_url=f"{served.url}/v1", api_key="x", model=model, check_embedding_ctx_length=False
    )
    # When documents and a question are embedded, then vectors are those of our own route
    same(embeddings.embed_documents(TEXTS), expected)
    same(embeddings.embed_query(TEXTS[0]), expected[0])
    # And also where they are sent one by one
    same(embeddings.embed_documents(TEXTS, chunk_size=1), expected)


def test_langchain_that_sends_token_ids_is_told_how_to_send_texts(
    served: Served, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given LangChain as it is by default, which sends another model's token ids; their vocabulary is not downloaded
    from langchain_openai import OpenAIEmbeddings

    letters = tiktoken.Encoding(
        "letters", pat_str=".+", mergeable_ranks={bytes([i]): i for i in range(256)}, special_tokens={}
    )
    for name in ("get_encoding", "encoding_for_model"):
        monkeypatch.setattr(tiktoken, name, lambda _: letters)
    embeddings = OpenAIEmbeddings(base_url=f"{served.url}/v1", api_key="x", model=model)
    # When a text is embedded, then the refusal names the flag
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        embeddings.embed_query(TEXTS[0])


def test_llamaindex_embeds(served: Served, model: str, expected: NDArray[np.float32]) -> None:
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding

    embeddings = OpenAILikeEmbedding(model_name=model, api_base=f"{served.url}/v1", api_key="x", embed_batch_size=3)
    same(embeddings.get_text_embedding_batch(TEXTS), expected)
    same(embeddings.get_query_embedding(TEXTS[1]), expected[1])


def test_litellm_embeds(served: Served, model: str, expected: NDArray[np.float32]) -> None:
    import litellm

    for provider in ("openai", "hosted_vllm"):
        answer = litellm.embedding(
            model=f"{provider}/{model}", input=TEXTS, api_base=f"{served.url}/v1", api_key="x", encoding_format="float"
        )
        same([one["embedding"] for one in answer.data], expected)
        assert answer.usage.prompt_tokens > len(TEXTS)


def test_litellm_sends_a_batch_and_reads_its_output(served: Served, model: str, expected: NDArray[np.float32]) -> None:
    import litellm

    # Given a file of requests, sent through LiteLLM
    place = {"custom_llm_provider": "openai", "api_base": f"{served.url}/v1", "api_key": "x"}
    lines = [
        {"custom_id": str(n), "method": "POST", "url": "/v1/embeddings", "body": {"model": model, "input": text}}
        for n, text in enumerate(TEXTS)
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    file = litellm.create_file(file=("texts.jsonl", content), purpose="batch", **place)
    # When a batch of it is made and waited for
    batch = litellm.create_batch(
        completion_window="24h", endpoint="/v1/embeddings", input_file_id=file.id, metadata={"mill": "north"}, **place
    )
    deadline = time.monotonic() + 60
    while batch.status not in ("completed", "failed") and time.monotonic() < deadline:
        time.sleep(0.05)
        batch = litellm.retrieve_batch(batch_id=batch.id, **place)
    # Then it is completed, with what was written on it, and its output has the vectors of our own route
    assert (batch.status, batch.request_counts.completed, batch.metadata) == (
        "completed",
        len(TEXTS),
        {"mill": "north"},
    )
    answers = map(json.loads, litellm.file_content(file_id=batch.output_file_id, **place).text.splitlines())
    found = {answer["custom_id"]: answer["response"]["body"]["data"][0]["embedding"] for answer in answers}
    same([found[str(n)] for n in range(len(TEXTS))], expected)
    assert batch.id in [one.id for one in litellm.list_batches(**place).data]


def test_the_hubs_client_extracts_features(served: Served, expected: NDArray[np.float32]) -> None:
    # Given the hub's client
    from huggingface_hub import InferenceClient
    from huggingface_hub.errors import HfHubHTTPError

    client = InferenceClient(served.url)
    # When features are extracted, of several texts and of one, then vectors are those of our own route
    same(client.feature_extraction(TEXTS), expected)
    same(
        client.feature_extraction(TEXTS[2], normalize=True, truncate=True, truncation_direction="right"), expected[2:3]
    )
    # And what cannot be done is told
    with pytest.raises(HfHubHTTPError, match="cuts long texts at the right"):
        client.feature_extraction(TEXTS[0], truncation_direction="left")
    with pytest.raises(HfHubHTTPError, match="no prompt named"):
        client.feature_extraction(TEXTS[0], prompt_name="question")
