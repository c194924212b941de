"""The chart renders with the real Helm into objects that a cluster takes, and refuses values that make none."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from tests.chart.cases import CASES, REFUSED, SCALED
from tests.chart.rendering import CHART, LONG, Object, Refused, named, render, run
from tests.chart.schemas import VERSIONS, check

_HELMS = ["helm", "helm3"] if LONG else ["helm"]


@pytest.mark.parametrize("helm", _HELMS)
@pytest.mark.parametrize("case", CASES)
def test_what_is_rendered_fits_the_schemas_of_a_cluster(case: str, helm: str) -> None:
    # When an installation and an upgrade are rendered
    for upgrade in (False, True) if LONG else (False,):
        objects = render(CASES[case], upgrade=upgrade, helm=helm)
        # Then each object is what its kind must be, in every version that the chart takes
        assert objects
        for found in objects:
            for version in VERSIONS:
                check(found, version)
        # And no two are of one kind and name
        names = [(found["kind"], found["metadata"]["name"]) for found in objects]
        assert len(names) == len(set(names))
        assert all(len(name) <= 63 for _, name in names)


@pytest.mark.parametrize("helm", _HELMS)
@pytest.mark.parametrize("case", CASES if LONG else ["as it comes", "all at once"])
def test_helm_finds_nothing_to_complain_of(case: str, helm: str) -> None:
    assert "1 chart(s) linted, 0 chart(s) failed" in run("lint", "--strict", CHART, values=CASES[case], helm=helm)


@pytest.mark.parametrize("helm", _HELMS)
@pytest.mark.parametrize("case", REFUSED)
def test_values_that_make_no_installation_are_refused_with_the_reason(case: str, helm: str) -> None:
    values, reason = REFUSED[case]
    with pytest.raises(Refused, match=reason):
        render(values, helm=helm)


def _misspell(found: Object) -> None:
    found["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}


def _mistype(found: Object) -> None:
    found["spec"]["replicas"] = "two"


@pytest.mark.parametrize("spoil", [_misspell, _mistype])
def test_the_check_sees_what_is_wrong_with_an_object_of_kubernetes(spoil: Callable[[Object], None]) -> None:
    spoilt = copy.deepcopy(named(render(), "Deployment", "-api"))
    spoil(spoilt)
    with pytest.raises(jsonschema.ValidationError):
        check(spoilt, VERSIONS[0])


def test_the_check_sees_what_is_wrong_with_an_object_of_keda() -> None:
    spoilt = copy.deepcopy(named(render({"workers": [SCALED]}), "ScaledObject", "bge-h100"))
    spoilt["spec"]["minReplicas"] = 0
    with pytest.raises(jsonschema.ValidationError, match="minReplicas"):
        check(spoilt, VERSIONS[0])


def test_every_value_has_a_default_and_every_default_a_schema() -> None:
    # Given the defaults and the schema, when they are laid side by side
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    # Then neither has what the other lacks, and nothing is left open
    lacking = list(_differences(schema, defaults, "values", schema["$defs"]))
    assert lacking == []
    group = schema["properties"]["workers"]["items"]
    assert set(group["properties"]) == set(defaults["workerDefaults"]) | {"name"}
    assert group["additionalProperties"] is False


def _differences(schema: dict[str, Any], values: Any, where: str, defs: dict[str, Any]) -> Iterator[str]:
    schema = defs[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema
    if "properties" not in schema or not isinstance(values, dict):
        return
    if schema.get("additionalProperties") is not False:
        yield f"{where} is open"
    # What belongs to Helm itself, and what a default can leave out.
    unnamed = {"global", "digest", "tag", "requests", "limits", "claims"}
    for name in (set(schema["properties"]) ^ set(values)) - unnamed:
        yield f"{where}.{name}"
    for name in set(schema["properties"]) & set(values):
        yield from _differences(schema["properties"][name], values[name], f"{where}.{name}", defs)
