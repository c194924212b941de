"""Which ids have come before."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from producer.idset import IdSet

HASHES = st.lists(st.lists(st.integers(0, 40) | st.integers(0, 2**64 - 1), max_size=30), max_size=12)


@given(HASHES)
def test_it_says_of_each_hash_what_a_set_would(batches: list[list[int]]) -> None:
    seen, ids = set[int](), IdSet()
    for batch in batches:
        wanted = []
        for place, value in enumerate(batch):
            if value in seen:
                wanted.append(place)
            seen.add(value)
        assert ids.add(np.array(batch, dtype=np.uint64)) == wanted
        assert len(ids) == len(seen)


def test_a_million_hashes_lie_in_a_few_runs() -> None:
    ids, hashes = IdSet(), np.random.default_rng(7).integers(0, 2**64, 1_000_000, dtype=np.uint64)
    for start in range(0, len(hashes), 1_000):
        ids.add(hashes[start : start + 1_000])
    assert len(ids) == len(set(hashes.tolist()))
    assert len(ids._runs) <= 6
    assert ids.add(hashes[-3:]) == [0, 1, 2]
