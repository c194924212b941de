"""From what was asked over HTTP to a job: whose it is, under which key, with which options."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from producer.api.auth import Caller
from producer.api.schemas import AskedInQuery, ItemIn, JobIn
from producer.api.service import Service
from producer.job import Job
from producer.records import RecordLike, told_problem
from storage.contract.errors import InvalidOption

#: A string of RFC 8941, in its marks, as draft-ietf-httpapi-idempotency-key-header has it; or a word without any.
_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_BARE = re.compile(r"[\x21\x23-\x2b\x2d-\x7e]+")

#: Longest idempotency key, in characters.
_LONGEST_KEY = 255

#: What an `Idempotency-Key` header may be, for the OpenAPI document.
KEY_PATTERN = rf"^(?:{_QUOTED.pattern.replace('*', f'{{1,{_LONGEST_KEY}}}')}|{_BARE.pattern[:-1]}{{1,{_LONGEST_KEY}}})$"


def idempotency_key(header: str | None) -> str | None:
    """Return the key in an `Idempotency-Key` header, or None where there is none.

    Raises:
        InvalidOption: When it is no key.
    """
    if header is None:
        return None
    quoted = _QUOTED.fullmatch(header.strip())
    if quoted is not None:
        key = re.sub(r"\\(.)", r"\1", quoted[1])
    elif _BARE.fullmatch(header.strip()):
        key = header.strip()
    else:
        key = ""
    if not 0 < len(key) <= _LONGEST_KEY:
        raise InvalidOption(
            "The Idempotency-Key is none.", f'Give 1 to {_LONGEST_KEY} ASCII characters, such as "8e03978e-40d5".'
        )
    return key


def merged(query: AskedInQuery, body: JobIn) -> JobIn:
    """Return what was asked in a body, and in the query where the body is silent.

    Raises:
        RequestValidationError: When the labels in the query are none.
    """
    missing = {name: value for name, value in query.given().items() if name not in body.model_fields_set}
    if not missing:
        return body
    found = checked(missing)
    return body.model_copy(update={name: getattr(found, name) for name in missing})


def checked(given: dict[str, Any]) -> JobIn:
    """Return what was asked in a query, as a body.

    Raises:
        RequestValidationError: When it is not of that form.
    """
    try:
        return JobIn.model_validate(given)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([{**one, "loc": ("query", *one["loc"])} for one in found]) from None


def submit_items(service: Service, caller: Caller, asked: JobIn, key: str | None) -> Job:
    """Submit the texts, or items, of a JSON body.

    Args:
        service: Takes the job.
        caller: Whose it is.
        asked: The body.
        key: The idempotency key, or None.

    Raises:
        InvalidOption: When there are none, or both.
    """
    if (asked.items is None) == (asked.texts is None) or asked.parts:
        raise InvalidOption("There must be texts or items, and not both.", 'Send {"texts": ["..."]}.')
    if asked.items is not None:
        # As lines are read: whoever names the field has ids, and where one is missing that is the item's error.
        with_ids = any("id" in item.model_fields_set for item in asked.items)
        return submit_records(service, caller, asked, key, _records(asked.items), with_ids)
    return submit_records(service, caller, asked, key, ((text, None, "", None) for text in asked.texts or ()), False)


def open_parts(service: Service, caller: Caller, asked: JobIn, key: str | None) -> Job:
    """Open a job that takes its texts in parts.

    Args:
        service: Takes the job.
        caller: Whose it is.
        asked: The body.
        key: The idempotency key, or None.

    Raises:
        InvalidOption: When there are texts already.
    """
    if asked.items is not None or asked.texts is not None:
        raise InvalidOption("A job with parts takes its texts in parts.", "Send neither texts nor items with it.")
    return service.client.open_parts(**_given(caller, asked, key))


def submit_records(
    service: Service, caller: Caller, asked: JobIn, key: str | None, records: Iterable[RecordLike], with_ids: bool
) -> Job:
    """Submit records with all that was asked beside them.

    Args:
        service: Takes the job.
        caller: Whose it is.
        asked: Options, name, labels and all the rest.
        key: The idempotency key, or None.
        records: The texts.
        with_ids: Whether each must have an id.
    """
    return service.client.submit_records(records, with_ids=with_ids, **_given(caller, asked, key))


def _given(caller: Caller, asked: JobIn, key: str | None) -> dict[str, Any]:
    """Return what is asked beside the texts, as the client takes it."""
    return {
        "model": asked.model,
        "revision": asked.revision,
        "on_invalid": asked.on_invalid,
        "idempotency_key": key,
        "priority": asked.priority,
        "key_id": caller.key_id,
        "expires_in": asked.expires_in,
        "keep_days": asked.keep_days,
        "keep_texts_days": asked.keep_texts_days,
        "name": asked.name,
        "labels": asked.labels or None,
        "webhook": None if asked.webhook is None else asked.webhook.url,
        "options": asked.options(),
    }


def _records(items: list[ItemIn]) -> Iterator[RecordLike]:
    for item in items:
        # To Python true is a whole number, to a person it is no id.
        number = isinstance(item.id, int) and not isinstance(item.id, bool)
        yield item.text, str(item.id) if number else item.id, "", told_problem(item.problem)
