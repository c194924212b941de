"""A filter of jobs as the database understands it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Text, literal, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from storage.contract.states import FINAL_JOB_STATES, JobState
from storage.jobfilter import JobFilter
from storage.moments import milliseconds
from storage.tables import JOB_IS_UNFINISHED, JobRow


def matches(wanted: JobFilter) -> list[ColumnElement[bool]]:
    """Return what must hold of a job, all of it, for a filter to let it pass."""
    states, found = wanted.states, list[ColumnElement[bool]]()
    found.append(JobRow.state != JobState.ACCEPTING if states is None else JobRow.state.in_(states))
    if states is not None and not FINAL_JOB_STATES.intersection(states):
        # By an index of these alone: else all that have ended are walked through.
        found.append(JobRow.id.in_(_UNFINISHED))
    if wanted.model is not None:
        found.append(JobRow.model == wanted.model)
    if wanted.name is not None:
        found.append(JobRow.name == wanted.name)
    for name, value in (wanted.labels or {}).items():
        found.append(label_of(JobRow.labels, literal(name)) == value)
    if wanted.since is not None:
        found.append(JobRow.created_at >= milliseconds(wanted.since))
    if wanted.until is not None:
        found.append(JobRow.created_at < milliseconds(wanted.until))
    return found


_UNFINISHED = select(JobRow.id).where(JOB_IS_UNFINISHED).correlate(None)


class label_of(GenericFunction[str]):
    """The value of a label, by its name, or NULL."""

    type = Text()
    inherit_cache = True


@compiles(label_of, "sqlite")
def _on_sqlite(element: label_of, compiler: Any, **kw: Any) -> str:
    # Not by a path, in which a name with a quote in it could not be written.
    labels, name = (compiler.process(one, **kw) for one in element.clauses)
    return f"(SELECT label.value FROM json_each({labels}) AS label WHERE label.key = {name})"


@compiles(label_of, "postgresql")
def _on_postgresql(element: label_of, compiler: Any, **kw: Any) -> str:
    labels, name = (compiler.process(one, **kw) for one in element.clauses)
    return f"({labels} ->> {name})"
