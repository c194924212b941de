"""Where chunks end, and in which groups they are handed on."""

import numpy as np
import pytest

from producer.chunking import CHUNK_ITEMS, CHUNK_TOKENS, GROUP_BYTES, Chunker
from producer.judging import estimate_tokens, judge
from producer.records import Record
from storage.chunks import NewChunk
from storage.texts import hash_ids


def chunks_of(records: list[Record], batch: int = 1_024, with_ids: bool = False) -> list[NewChunk]:
    """Return the chunks of records that come so many at a time."""
    found: list[NewChunk] = []
    chunker = Chunker(found.extend)
    for start in range(0, len(records), batch):
        chunker.extend(judge(records[start : start + batch], 100_000, with_ids))
    found += chunker.finish()
    assert (chunker.items, chunker.chunks) == (len(records), len(found))
    return found


def test_an_estimate_goes_by_bytes_and_script() -> None:
    assert estimate_tokens([b"", b"a" * 45, "小麦".encode()]).tolist() == [2, 12, 4]


def test_a_chunk_ends_behind_the_item_with_which_it_has_tokens_enough() -> None:
    # Given texts of 102 estimated tokens
    found = chunks_of([Record("a" * 450)] * 200)
    # Then a chunk has as many as just reach its tokens, and follows where the one before ended
    assert [len(chunk.texts) for chunk in found] == [79, 79, 42]
    assert found[0].token_estimate == 79 * 102 >= CHUNK_TOKENS > 78 * 102
    assert [(chunk.number, chunk.first) for chunk in found] == [(0, 0), (1, 79), (2, 158)]


def test_short_texts_make_chunks_of_a_bounded_number() -> None:
    assert [len(chunk.texts) for chunk in chunks_of([Record("a")] * 2_500)] == [CHUNK_ITEMS, CHUNK_ITEMS, 452]


def test_a_text_counts_as_at_most_what_is_usually_read_of_it() -> None:
    assert [len(chunk.texts) for chunk in chunks_of([Record("a" * 90_000)] * 20)] == [16, 4]


@pytest.mark.parametrize("batch", [1, 7, 79, 1_024])
def test_chunks_are_the_same_however_the_items_come(batch: int) -> None:
    # Given items of all sizes, some of them invalid
    sizes = np.random.default_rng(7).integers(0, 2_000, 700).tolist()
    records = [Record("a" * size, f"id-{number}" if number % 50 else None) for number, size in enumerate(sizes)]
    # When they come in batches, then the chunks are those of all at once
    whole, found = chunks_of(records, 10_000, True), chunks_of(records, batch, True)
    for one, same in zip(whole, found, strict=True):
        assert (one.texts, one.ids, one.invalid, one.first) == (same.texts, same.ids, same.invalid, same.first)
        assert one.token_estimate == same.token_estimate
        assert one.ids is not None and one.id_hashes is not None and same.id_hashes is not None
        assert one.id_hashes.tolist() == same.id_hashes.tolist() == hash_ids(one.ids).tolist()
    errors = {chunk.first + place for chunk in found for place in chunk.invalid}
    assert errors == {number for number, size in enumerate(sizes) if not size or number % 50 == 0}


def test_groups_are_handed_on_at_about_a_megabyte_and_the_rest_is_given_at_the_end() -> None:
    groups: list[list[NewChunk]] = []
    chunker = Chunker(groups.append)
    chunker.extend(judge([Record("a" * 900)] * 3_000, 100_000, False))
    rest = chunker.finish()
    sizes = [sum(len(text) for chunk in group for text in chunk.texts) for group in (*groups, rest)]
    assert len(groups) == 2 and all(GROUP_BYTES <= size < GROUP_BYTES + 50_000 for size in sizes[:2])
    assert sum(sizes) == 2_700_000
    assert chunker.chunks == sum(map(len, groups)) + len(rest)


def test_an_id_that_is_not_written_yet_is_known() -> None:
    chunker = Chunker(lambda group: None)
    chunker.extend(judge([Record("a" * 45, f"id-{number}") for number in range(1_000)], 100_000, True))
    assert chunker.holds("id-0") and chunker.holds("id-999")
    assert not chunker.holds("id-1000")
