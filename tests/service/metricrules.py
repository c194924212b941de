"""What every metric must keep to: the rules of `promtool check metrics`, and our own of names and labels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

DOCS = Path(__file__).parents[2] / "docs" / "observability.md"

#: All labels that there are: none names a job, a text or a key, of which there is no end.
LABELS = {
    *("model", "priority", "precision", "state", "version"),
    *("method", "route", "status"),
    *("slot", "stage", "process", "gpu", "name", "uuid"),
}

#: Words that are no base unit, or a kind.
_NO_UNITS = re.compile(
    r"(^|_)(ms|milliseconds|minutes|hours|kb|mb|kilobytes|megabytes|percent|gauge|counter|histogram)(_|$)"
)


@dataclass(frozen=True)
class Told:
    """One metric, as it is told or documented: its name (a counter's with `_total`), kind and labels."""

    name: str
    kind: str
    labels: frozenset[str]


def told(text: str) -> dict[str, Told]:
    """Return the metrics of an answer, by name; those without a sample have no labels."""
    found = {}
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert name not in found, f"{name} is told twice"
        found[name] = Told(name, family.type, frozenset(labels))
    return found


def documented() -> dict[str, Told]:
    """Return the metrics of the tables of `docs/observability.md`, by name."""
    tables = DOCS.read_text().split("<!-- metrics -->")[1].split("<!-- end of metrics -->")[0]
    found = {}
    for line in tables.splitlines():
        row = re.fullmatch(r"\| `(\w+)` \| (.+), (\w+) \| (.*?) ?\| (.+) \|", line)
        if row is not None:
            labels = frozenset(re.findall(r"`(\w+)`", row[4]))
            assert row[1] not in found, f"{row[1]} is documented twice"
            found[row[1]] = Told(row[1], row[3], labels)
    return found


def broken_rules(text: str) -> Iterator[str]:
    """Yield what is wrong with an answer of `/metrics`."""
    # The parser would mend these.
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE):
        if (kind == "counter") != name.endswith("_total"):
            yield f"{name}: counters, and they alone, end in _total"
        if name.endswith(("_bucket", "_count", "_sum")):
            yield f"{name}: ends as a histogram's parts do"
    for family in text_string_to_metric_families(text):
        if not re.fullmatch(r"(embedmill|process)_[a-z][a-z_]*[a-z]", family.name):
            yield f"{family.name}: no name of ours"
        if _NO_UNITS.search(family.name):
            yield f"{family.name}: not in base units"
        if not family.documentation.strip():
            yield f"{family.name}: says nothing of itself"
        if family.type not in ("counter", "gauge", "histogram"):
            yield f"{family.name}: is a {family.type}"
        for sample in family.samples:
            foreign = sample.labels.keys() - LABELS - {"le"}
            if foreign:
                yield f"{family.name}: has labels {foreign}"
            if any(re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-7|em_[a-z2-7]{16}", value) for value in sample.labels.values()):
                yield f"{family.name}: has an id as a label"
