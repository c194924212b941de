"""The two forms of these tests: the short one is part of `make test`, `make data-test` (FAULTS=full) runs all of it."""

from __future__ import annotations

import pytest

from tests.faults.forms import FULL

#: For a test that takes too long for the short form.
full = pytest.mark.skipif(not FULL, reason="belongs to the long form of the life of the data: make data-test")
