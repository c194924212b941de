"""The OpenAPI document is true: made-up requests are answered as it says (the short form; the long: `make fuzz`)."""

from __future__ import annotations

import httpx

from tests.service.fuzzing import Fuzzed, fuzz, lines
from tests.service.operations import operations
from tests.service.serving import Served

#: Same seed, same requests.
_SEED = 5


def _check(told: Fuzzed, least: int) -> None:
    assert not told.findings, "\n".join(lines(told.findings))
    assert not told.errors, told.errors
    assert told.cases >= least, told.by_phase


def test_every_route_answers_what_is_made_up_of_the_document_as_it_says(served: Served) -> None:
    # Each operation by its examples and at random, then along the links
    told = fuzz(served.url, _SEED, cases=400, examples=2, phases=("examples", "fuzzing", "stateful"))
    _check(told, least=100)
    # And no operation was left out
    with served.http() as http:
        known = {f"{one.method} {one.path}" for one in operations(http.get("/openapi.json").json())}
    assert known <= set(told.by_operation)


def test_with_keys_no_route_forgets_to_ask_for_one(keyed: Served) -> None:
    _, key = keyed.service.stores.keys.create("fuzz", ["admin"])
    told = fuzz(keyed.url, _SEED, key=key, cases=200, examples=1, phases=("fuzzing",))
    _check(told, least=40)
    assert told.by_status["401"] > 20


def test_a_method_that_a_path_lacks_is_refused_with_all_that_it_has(http: httpx.Client) -> None:
    refused = http.request("PATCH", "/v1/jobs")
    assert refused.status_code == 405 and refused.headers["Allow"] == "GET, HEAD, POST"
    assert http.request("DELETE", "/").headers["Allow"] == "GET, HEAD, POST"


def test_the_document_links_every_thing_that_is_made_to_what_may_be_done_with_it(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    told = operations(document)
    # Given what is taken from an answer, by operation
    links = [
        link for one in told for answer in one.told["responses"].values() for link in answer.get("links", {}).values()
    ]
    # Then each leads to an operation, and to each that needs the id of something there is a way
    ids = {one.told["operationId"]: one for one in told}
    assert {link["operationId"] for link in links} <= ids.keys()
    reached = {link["operationId"] for link in links}
    alone = {name for name, one in ids.items() if one.parameters and name not in reached}
    # The caller chose the id of an item himself
    assert alone == {"get_item"}
    # And none tells errors in the framework's form, or in two forms at once
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert [name for name in document["components"]["schemas"] if name.endswith("ErrorBody")] == ["ErrorBody"]
