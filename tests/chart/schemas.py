"""Checks objects against a cluster's schemas: Kubernetes' own of several versions, KEDA's and Prometheus'."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from tests.chart.rendering import LONG, Object

#: From the oldest version that the chart takes to the newest whose schemas there are.
VERSIONS = [f"1.{minor}" for minor in range(30, 38)] if LONG else ["1.30", "1.37"]

#: Kubernetes' schemas, in which a field that a kind does not have is an error.
_OWN = files("kubernetes_validate") / "kubernetes-json-schema"

#: Schemas of kinds that Kubernetes does not know by itself: KEDA 2.16's and the Prometheus operator's 0.80, made of the
#: models in the packages cloudcoil-models-keda and cloudcoil-models-prometheus-operator, without their descriptions.
_CUSTOM = Path(__file__).with_name("crds")


def check(found: Object, version: str) -> None:
    """Check one object, strictly: a field that its kind does not have is an error.

    Args:
        found: The object.
        version: Of Kubernetes.

    Raises:
        jsonschema.ValidationError: When it does not fit.
    """
    _validator(found["kind"].lower(), found["apiVersion"], version).validate(found)


@cache
def _validator(kind: str, group: str, version: str) -> Draft202012Validator:
    custom = _CUSTOM / f"{kind}.json"
    if custom.exists():
        return Draft202012Validator(json.loads(custom.read_text()))
    # That of networking.k8s.io/v1 is named by networking-v1.
    domain, _, number = group.rpartition("/")
    name = "-".join(part for part in (kind, domain.partition(".")[0], number) if part)
    schema = json.loads((_OWN / f"v{version}.0-local-strict" / f"{name}.json").read_text())
    return Draft202012Validator(schema, registry=_definitions(version))


@cache
def _definitions(version: str) -> Registry[Any]:
    found = json.loads((_OWN / f"v{version}.0-local-strict" / "_definitions.json").read_text())
    return Resource.from_contents(found) @ Registry()
