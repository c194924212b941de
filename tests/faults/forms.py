"""The two forms of the fault suite: the short one is part of `make test`, `make chaos` (FAULTS=full) runs all of it."""

from __future__ import annotations

import os

import pytest

#: Whether everything is to run.
FULL = os.environ.get("FAULTS") == "full"

#: For a test that takes too long for the short form.
full = pytest.mark.skipif(not FULL, reason="belongs to the long form of the fault suite: make chaos")

#: `@scenario("F9")`: which row of the fault matrix a test shows; `make chaos` writes the table from it.
scenario = pytest.mark.scenario

#: Both databases in the long form, one in the short one.
KINDS = ("sqlite", "postgresql") if FULL else ("sqlite",)
KINDS_POSTGRES_FIRST = ("sqlite", "postgresql") if FULL else ("postgresql",)
