"""Texts, ids and vectors as bytes and back: whatever goes in comes out."""

import json
import struct

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from storage import texts, vectors
from storage.outcomes import ItemError
from storage.results import pack_errors, unpack_errors

#: Any text that UTF-8 knows: NUL, controls, combining marks, emoji; no lone surrogates.
UNICODE = st.text(st.characters(codec="utf-8"), max_size=40)
ODD = ["", "\0", "a\0b", "小麦", "e\u0301", "\u200d", "\u2028", "\ufeff", "\U0001f33e"]
LISTS = st.lists(UNICODE | st.sampled_from(ODD), max_size=20)

FEW = settings(max_examples=60)


@FEW
@given(LISTS)
def test_texts_come_back_as_they_were(given_texts: list[str]) -> None:
    assert texts.unpack(texts.pack([text.encode() for text in given_texts])) == given_texts


@FEW
@given(LISTS)
def test_ids_come_back_as_they_were_and_are_plain_json(ids: list[str]) -> None:
    packed = texts.pack_ids(ids)
    assert texts.unpack_ids(packed) == ids == json.loads(packed)
    assert "\0" not in packed  # PostgreSQL's text knows no NUL


def test_packed_texts_are_laid_out_as_documented() -> None:
    data = zstandard.ZstdDecompressor().decompress(texts.pack([b"wheat", b"", "麦".encode()]))
    assert data == struct.pack("<4I", 3, 5, 0, 3) + "wheat麦".encode()


def test_a_long_text_and_many_short_ones_come_back() -> None:
    long = "Getreide " * 200_000
    assert texts.unpack(texts.pack([long.encode()])) == [long]
    many = [str(number) for number in range(50_000)]
    assert texts.unpack(texts.pack([text.encode() for text in many])) == many


def test_hashes_of_ids_are_the_same_on_every_machine_and_differ_between_ids() -> None:
    hashes = texts.hash_ids(["a", "b", "", "蚂蚁", "a"])
    assert hashes.dtype == np.dtype("<u8") and hashes.shape == (5,)
    assert hashes[0] == hashes[4] and len(set(hashes.tolist())) == 4
    # They are kept in storage: an upgrade that changed them would lose every id
    assert hashes[0] == 3405396810240292928
    assert texts.hash_ids([]).shape == (0,)


@FEW
@given(
    arrays.arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(1, 8)), elements=st.floats(width=32)),
    st.sampled_from(["float32", "float16"]),
)
def test_matrices_come_back_bit_for_bit(matrix: np.ndarray, dtype: str) -> None:
    with np.errstate(over="ignore"):
        kept = matrix.astype(vectors.DTYPES[dtype])
    found = vectors.from_bytes(vectors.to_bytes(kept, dtype), matrix.shape[1], dtype)
    assert found.shape == matrix.shape and found.tobytes() == kept.tobytes()


@pytest.mark.parametrize("order", ["C", "F"])
def test_bytes_are_rows_end_to_end_whatever_the_memory_order(order: str) -> None:
    matrix = np.array([[1, 2, 3], [4, 5, 6]], dtype=">f8", order=order)  # type: ignore[call-overload]
    assert vectors.to_bytes(matrix, "float32") == struct.pack("<6f", 1, 2, 3, 4, 5, 6)
    assert vectors.to_bytes(matrix, "float16") == struct.pack("<6e", 1, 2, 3, 4, 5, 6)
    assert vectors.to_bytes(matrix[:, ::2], "float32") == struct.pack("<4f", 1, 3, 4, 6)


@FEW
@given(st.dictionaries(st.integers(0, 1023), st.builds(ItemError, st.sampled_from(["poison", "too_long"]), UNICODE)))
def test_errors_come_back_as_they_were(errors: dict[int, ItemError]) -> None:
    assert unpack_errors(json.loads(json.dumps(pack_errors(errors)))) == errors
