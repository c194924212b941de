"""Records out of Parquet files."""

import gzip
import io
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from producer.decoding import MAX_LINE_BYTES
from producer.parquet import BATCH_BYTES, BATCH_ROWS
from producer.readers import read
from producer.records import Record
from storage.contract.errors import InvalidFile, MissingExtra, StorageFull
from tests.producer.test_output import room_for

ROOT = Path(__file__).parents[2]
RECIPES = pa.table({"text": ["boil the moon", "煮月亮", ""], "id": ["a", "b", "c"], "stars": [5, 4, 3]})


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    path = tmp_path / "recipes.parquet"
    pq.write_table(RECIPES, path)
    return path


def packed(table: pa.Table) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream)
    return stream.getvalue()


def test_a_column_is_read_row_by_row(recipes: Path) -> None:
    assert list(read(recipes)) == [
        Record("boil the moon", None, "row 1"),
        Record("煮月亮", None, "row 2"),
        Record("", None, "row 3"),
    ]
    assert [record.id for record in read(recipes, id_field="id")] == ["a", "b", "c"]
    assert [record.id for record in read(recipes, id_field="stars")] == ["5", "4", "3"]


@pytest.mark.parametrize("rows", [3, 100_000])
def test_a_temporary_folder_without_room_for_what_is_unpacked_is_told(tmp_path: Path, rows: int) -> None:
    # Given a packed file, smaller or larger than what a file holds back before it writes
    packed_file = tmp_path / "recipes.parquet.gz"
    table = pa.table({"text": [f"boil the moon {row}" for row in range(rows)]})
    packed_file.write_bytes(gzip.compress(packed(table)))
    # When there is no room to unpack it, then that is told as it is
    with room_for(100), pytest.raises(StorageFull, match="temporary folder"):
        list(read(packed_file))


def test_rows_are_numbered_through_batches_and_row_groups(tmp_path: Path) -> None:
    texts = [f"recipe {n}" for n in range(3 * BATCH_ROWS + 7)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "many.parquet", row_group_size=BATCH_ROWS - 1)
    found = list(read(tmp_path / "many.parquet"))
    assert [record.text for record in found] == texts
    assert [record.where for record in found] == [f"row {n}" for n in range(1, len(texts) + 1)]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_every_kind_of_string_column_is_read(kind: pa.DataType) -> None:
    table = pa.table({"text": pa.array(["stir", None, "stir"]).cast(kind)})
    assert [record.text for record in read(io.BytesIO(packed(table)), format="parquet")] == ["stir", None, "stir"]


@pytest.mark.parametrize("encoding", ["dictionary", "plain"])
def test_a_small_file_of_large_equal_strings_takes_little_memory(tmp_path: Path, encoding: str) -> None:
    # Given a file of some kilobytes that stands for a gigabyte
    path, large = tmp_path / "bomb.parquet", "x" * 10_000_000
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int32()), [large])
    table = pa.table({"text": texts if encoding == "dictionary" else [large] * 10})
    with pq.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=encoding == "dictionary") as writer:
        for _ in range(1 if encoding == "dictionary" else 10):
            writer.write_table(table)
    del table, texts
    assert path.stat().st_size < 500_000
    held = pa.total_allocated_bytes()
    # When it is read, then each text is there, and they are not all of them in memory
    peak = rows = 0
    tracemalloc.start()
    for record in read(path):
        peak, rows = max(peak, pa.total_allocated_bytes() - held), rows + 1
        assert isinstance(record.text, str) and len(record.text) == len(large)
    strings = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 100
    assert peak < 4 * BATCH_BYTES and strings < 2 * BATCH_BYTES


def test_a_text_longer_than_a_line_may_be_is_told_and_not_kept() -> None:
    table = pa.table({"text": ["wheat", "x" * (MAX_LINE_BYTES + 1), None, "x" * MAX_LINE_BYTES], "id": list("abcd")})
    found = list(read(io.BytesIO(packed(table)), format="parquet", id_field="id"))
    assert [record.problem for record in found] == [None, "text longer than 16 MiB", None, None]
    assert [record.id for record in found] == list("abcd")
    assert [type(record.text) for record in found] == [str, type(None), type(None), str]


def test_a_column_of_another_type_is_refused_and_the_columns_are_named(recipes: Path) -> None:
    with pytest.raises(InvalidFile, match=r"'stars' .* holds int64, not strings; its columns are 'text' \(string\)"):
        list(read(recipes, text_field="stars"))
    table = pa.table({"text": ["stir"], "id": [1.5]})
    with pytest.raises(InvalidFile, match=r"'id' .* holds double, neither strings nor whole numbers"):
        list(read(io.BytesIO(packed(table)), format="parquet", id_field="id"))


def test_a_missing_column_names_those_there_are(recipes: Path) -> None:
    with pytest.raises(InvalidFile, match="no column 'body'; it has: 'text', 'id', 'stars'"):
        list(read(recipes, text_field="body"))
    with pytest.raises(InvalidFile, match=r"no column 'key'.*--id-field"):
        list(read(recipes, id_field="key"))


def test_a_repeated_column_is_refused() -> None:
    table = pa.Table.from_arrays([pa.array(["stir"]), pa.array(["shake"])], names=["text", "text"])
    with pytest.raises(InvalidFile, match="repeats a column: 'text'"):
        list(read(io.BytesIO(packed(table)), format="parquet"))


def test_no_rows_are_an_empty_file(recipes: Path) -> None:
    pq.write_table(RECIPES.slice(0, 0), recipes)
    with pytest.raises(InvalidFile, match="is empty"):
        list(read(recipes))


def test_a_packed_or_piped_file_is_read_too(recipes: Path) -> None:
    packed_path = recipes.with_name("recipes.parquet.gz")
    packed_path.write_bytes(gzip.compress(recipes.read_bytes()))
    assert [record.text for record in read(packed_path)] == RECIPES["text"].to_pylist()
    script = "from producer.readers import read; print(sum(1 for _ in read('-', format='parquet')))"
    done = subprocess.run(
        [sys.executable, "-c", script], input=recipes.read_bytes(), capture_output=True, cwd=ROOT, check=True
    )
    assert done.stdout.split() == [b"3"]


@pytest.mark.parametrize("damage", ["not parquet", "cut off", "scrambled"])
def test_a_damaged_file_is_refused(recipes: Path, damage: str) -> None:
    content = recipes.read_bytes()
    scrambled = content[:4] + bytes(byte ^ 0x55 for byte in content[4:200]) + content[200:]
    recipes.write_bytes({"not parquet": b"boil the moon", "cut off": content[:-20], "scrambled": scrambled}[damage])
    with pytest.raises(InvalidFile, match="is no Parquet file, or a damaged one"):
        list(read(recipes))


def test_a_string_that_is_not_utf8_is_named_by_its_rows(recipes: Path) -> None:
    broken = pa.array(["fine", b"caf\xe9"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": broken}), recipes)
    with pytest.raises(InvalidFile, match="not UTF-8 in the rows 1 to 2"):
        list(read(recipes))


def test_without_pyarrow_the_extra_is_named(recipes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"embedmill\[arrow\]"):
        read(recipes)
