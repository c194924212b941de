"""Requests made up from the OpenAPI document by the thousand, and what was wrong with the answers."""

from __future__ import annotations

import json
import math
import re
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import Failure
from schemathesis.core.transport import Response
from schemathesis.engine import from_schema
from schemathesis.engine.events import NonFatalError, ScenarioFinished
from schemathesis.generation.case import Case
from schemathesis.hooks import HookContext
from schemathesis.transport import SerializationContext

from storage.contract.models import DEFAULT_MODEL

#: Most texts of a made-up request, most characters of one, and how many events of a stream are read: the worker that
#: stands behind is one slow machine, and to embed much is not what is tried here.
TEXTS, LETTERS, EVENTS = 4, 200, 2

#: How requests are made up: the document's own examples; the edges of each field, one by one; at random; and at random
#: along the links from what is created to what may be done with it.
PHASES = ("examples", "coverage", "fuzzing", "stateful")

_MODEL = "what a model can do (widths, layers, prompts, ids) is known to the model alone, and not to the document"
_FITS = "which fields go together is said in words"

#: Failures that are none, by operation, with the reason.
LEFT_OUT: dict[str, dict[str, str]] = {
    "submit_job": {"rejected_positive_data": _MODEL},
    "create_embeddings": {"rejected_positive_data": _MODEL},
    "show_tokens": {"rejected_positive_data": _MODEL},
    "tei_embed": {"rejected_positive_data": _MODEL},
    "tei_root": {
        "rejected_positive_data": _MODEL,
        "unsupported_method_response": "GET of the same path is the page, which the document of the API leaves out",
        "allow_header_mismatch": "as above",
    },
    "tei_invocations": {"rejected_positive_data": _MODEL},
    "tei_tokenize": {"rejected_positive_data": _MODEL},
    "tei_decode": {"rejected_positive_data": _MODEL},
    "tei_embed_all": {"rejected_positive_data": _MODEL},
    "complete_upload": {
        "rejected_positive_data": _FITS,
        "ensure_resource_availability": "404 also tells of parts that nobody has, so that another's cannot be found",
    },
    "get_results": {"rejected_positive_data": _FITS},
    "get_item_at": {"rejected_positive_data": _FITS},
}

#: Answers to a good request: no right, no such thing, not now.
ACCEPTED = ("2xx", "3xx", 401, 403, 404, 409, 429, "5xx")

#: What a model that is served takes, for three in four of the requests that could be good ones: else hardly any is.
_SOUND: dict[str, Any] = {
    "model": DEFAULT_MODEL,
    "revision": None,
    "prompt_name": None,
    "layer": -1,
    "max_length": 16,
    "dimensions": 4,
    "expires_in": 3600,
    "labels": '{"team": "search"}',
    "webhook": "https://hooks.invalid/embedded",
    "text_field": "text",
    "id_field": None,
}


@schemathesis.serializer("application/x-ndjson")
def as_lines(context: SerializationContext, value: Any) -> dict[str, Any]:
    """Write what was made up as NDJSON: a text is a line of its own, or several, unless its lines are JSON already."""
    lines = value.split("\n")[:TEXTS] if isinstance(value, str) else []
    written = [line if line.startswith(("{", '"')) else json.dumps(line) for line in lines] or [json.dumps(value)]
    return {"data": "\n".join(written).encode()}


@dataclass
class Fuzzed:
    """What came of it.

    Args:
        cases: Requests that were answered.
        checks: Checks made of the answers.
        by_operation: Requests by operation.
        by_status: Answers by status.
        by_phase: Requests by phase.
        findings: Each kind of failure once, with how often and an example of what was sent.
        errors: What went wrong in the asking itself.
    """

    cases: int = 0
    checks: int = 0
    by_operation: Counter[str] = field(default_factory=Counter)
    by_status: Counter[str] = field(default_factory=Counter)
    by_phase: Counter[str] = field(default_factory=Counter)
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)


def fuzz(
    url: str,
    seed: int,
    *,
    key: str | None = None,
    cases: int,
    examples: int,
    phases: Sequence[str] = PHASES,
    until: float = math.inf,
    into: Fuzzed | None = None,
) -> Fuzzed:
    """Send made-up requests to every route of a service, alone and along the links between them.

    Args:
        url: Of the service.
        seed: The same one makes the same requests, as far as the answers are the same.
        key: An admin's API key, or None where no keys are used.
        cases: Stop after so many requests.
        examples: Requests made up for each operation, and walks along links; each phase is gone through once.
        phases: Of `PHASES`.
        until: When to stop in any case, by the monotonic clock.
        into: What is added to.
    """
    told = into or Fuzzed()
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=_config(seed, key, examples, phases))
    stream = from_schema(schema).execute()
    begun = told.cases
    for event in stream:
        if isinstance(event, NonFatalError):
            told.errors[f"{event.label}: {event.info.title}: {event.info.message}"] += 1
        if isinstance(event, ScenarioFinished):
            _add(told, event)
            if told.cases - begun >= cases or time.monotonic() > until:
                stream.stop()
    return told


def _config(seed: int, key: str | None, examples: int, phases: Sequence[str]) -> SchemathesisConfig:
    told: dict[str, Any] = {
        "seed": seed,
        "continue-on-failure": True,
        "max-stream-events": EVENTS,
        # Longer than the service lets any call wait.
        "request-timeout": 90,
        "generation": {"max-examples": examples, "database": "none", "no-shrink": True},
        # How large a file or a body may be is a setting.
        "checks": {"positive_data_acceptance": {"expected-statuses": [*ACCEPTED, 413]}},
        "suppress-health-check": ["all"],
        "phases": {phase: {"enabled": phase in phases} for phase in PHASES},
        "warnings": False,
    }
    if key is not None:
        told["auth"] = {"openapi": {"HTTPBearer": {"bearer": key}}}
    return SchemathesisConfig.from_dict(told)


#: Ids of the API keys that made-up requests have made: only these are revoked again.
_keys: set[str] = set()


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Make good requests small, most of them sound, and none of them one that tells anybody outside."""
    if case.operation.label == "DELETE /v1/keys/{key_id}" and case.path_parameters["key_id"] not in _keys:
        # Else the key that all is asked with would soon be revoked, and nothing be tried but that.
        case.path_parameters["key_id"] = "mfrggzdfmztwq2lk"
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if isinstance(case.body, dict | list):
        case.body = whole(case.body)
    body = case.body if isinstance(case.body, dict) else {}
    sound = zlib.crc32(repr((body, case.query)).encode()) % 4 > 0
    for name in ("texts", "items", "input", "inputs"):
        if isinstance(body.get(name), list):
            body[name] = body[name][:TEXTS]
            if sound and name == "texts":
                body[name] = [str(text)[:LETTERS] or "rye" for text in body[name]]
    if body.get("webhook"):
        body["webhook"] = {"url": _SOUND["webhook"]}
    for given in (case.query or {}, body):
        for name in set(given) & _SOUND.keys() if sound else {"webhook"} & set(given if given is not body else ()):
            if isinstance(given[name], dict):
                continue
            given[name] = _SOUND[name]
            if given[name] is None:
                del given[name]


@schemathesis.hook
def after_call(context: HookContext, case: Case, response: Response) -> None:
    """Remember which keys were made here."""
    if case.operation.label == "POST /v1/keys" and response.status_code == 201:
        _keys.add(response.json()["id"])


def whole(value: Any) -> Any:
    """Return a JSON value whose whole numbers have no point, with which they are refused: no schema can say so."""
    if isinstance(value, dict):
        return {name: whole(one) for name, one in value.items()}
    if isinstance(value, list):
        return [whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


#: What is said of forms that were to be wrong, and are not: a file's bytes are taken for no string.
_NOT_WRONG = re.compile("positive test case|in body - (valid object|object with )")


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    """Whether a failure counts."""
    operation = case.operation.definition.raw.get("operationId", "")
    name = _word(failure)
    if name == "accepted_negative_data" and _NOT_WRONG.search(failure.message):
        return False
    return not any(name in LEFT_OUT.get(one, ()) for one in ("*", operation))


def _word(failure: Failure) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(failure).__name__).lower()


def _add(told: Fuzzed, event: ScenarioFinished) -> None:
    recorder = event.recorder
    told.by_phase[event.phase.value] += len(recorder.interactions)
    for case_id, interaction in recorder.interactions.items():
        told.cases += 1
        told.by_operation[recorder.cases[case_id].value.operation.label] += 1
        status = "none" if interaction.response is None else str(interaction.response.status_code)
        told.by_status[status] += 1
    for case_id, checks in recorder.checks.items():
        for check in checks:
            told.checks += 1
            if check.failure_info is None:
                continue
            failure = check.failure_info.failure
            kind = f"{_word(failure)} | {failure.operation} | {_gist(failure.message)}"
            found = told.findings.setdefault(kind, {"times": 0, "phase": str(event.phase.value)})
            found["times"] += 1
            response = recorder.interactions[case_id].response
            found.setdefault("example", check.failure_info.code_sample[:1500])
            found.setdefault("answer", "" if response is None else f"{response.status_code} {response.content[:300]!r}")


def _gist(message: str) -> str:
    return re.sub(r"\s+", " ", message)[:160]


def lines(findings: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield what was found, as text."""
    for kind, found in sorted(findings.items()):
        yield f"{found['times']} x {kind}\n    {found['example']}\n    {found['answer']}"
