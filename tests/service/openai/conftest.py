"""The real `openai` client on the running service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from openai import OpenAI

from tests.service.serving import Served


@pytest.fixture
def openai(served: Served) -> Iterator[OpenAI]:
    """A client that raises when an answer is not of the form that the package knows."""
    with OpenAI(
        base_url=f"{served.url}/v1", api_key="x", max_retries=0, timeout=60, _strict_response_validation=True
    ) as client:
        yield client


@pytest.fixture
def plain(served: Served) -> Iterator[OpenAI]:
    """A client as most have it; with validation the package does not read the base64 that it asks for by default."""
    with OpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
def model(served: Served) -> str:
    """The name of the model that is served."""
    return served.service.settings.model
