"""Files and folders that people have: what is read of them, with the place of each row."""

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from r1kit.data.faults import shown
from r1kit.data.files import read_file, read_rows
from r1kit.data.rows import Row
from r1kit.errors import DataError

ROWS = [{"question": 'What is "1 + 1"?', "answer": "2"}, {"question": "Zwei\nZeilen, 2·2?", "answer": "4"}]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS)
CSV = 'question,answer\n"What is ""1 + 1""?",2\n"Zwei\nZeilen, 2·2?",4\n'


def read(source: str, folder: Path, split: str | None = None) -> list[Row]:
    return list(read_rows(source, split=split, subset=None, base_dir=folder))


@pytest.mark.parametrize(
    ("name", "text", "places"),
    [
        ("a.jsonl", JSONL, [":1", ":2"]),
        ("a.ndjson", "\n" + JSONL, [":2", ":3"]),
        ("a.json", JSONL, [":1", ":2"]),
        ("a.json", json.dumps(ROWS, indent=1), [" row 1", " row 2"]),
        ("a.json", "\ufeff" + json.dumps(ROWS), [" row 1", " row 2"]),
        ("a.json", json.dumps({"version": 1, "data": ROWS}), [" row 1", " row 2"]),
        ("a.csv", CSV, [":2", ":3"]),
        ("a.csv", "\ufeff" + CSV.replace("\n", "\r\n").replace("Zwei\r\n", "Zwei\n"), [":2", ":3"]),
        ("a.csv", CSV.replace("question,", "question;").replace('",', '";'), [":2", ":3"]),
        ("a.tsv", CSV.replace("question,", "question\t").replace('",', '"\t'), [":2", ":3"]),
    ],
)
@pytest.mark.parametrize("compress", [None, gzip, bz2, lzma])
def test_every_format_gives_the_same_rows_compressed_or_not(
    name: str, text: str, places: list[str], compress, tmp_path: Path
) -> None:
    raw = text.encode()
    if compress is not None:
        name += {"gzip": ".gz", "bz2": ".bz2", "lzma": ".xz"}[compress.__name__]
        raw = compress.compress(raw)
    path = tmp_path / name
    path.write_bytes(raw)
    rows = read(name, tmp_path)
    assert [row.values for row in rows] == ROWS
    assert [row.place for row in rows] == [f"{path}{place}" for place in places]


def test_a_row_that_can_not_be_read_is_a_fault_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"a": 1}\n{"a": \n[1]\n{"a": "\xff"}\n{"a": {"b": "\\ud83d"}}\n{"a": 2}\n{"a": "\\ud83d\\ude00"}'
    )
    rows = read("a.jsonl", tmp_path)
    assert [row.values for row in rows if row.fault is None] == [{"a": 1}, {"a": 2}, {"a": "😀"}]
    faults = {row.place.rpartition(":")[2]: row.fault for row in rows if row.fault}
    assert "not valid JSON" in faults["2"]
    assert "expected a JSON object, not list" in faults["3"]
    assert "not UTF-8" in faults["4"]
    assert str(faults["5"]).startswith("`a.b` holds '\\ud83d' at character 1, half of a surrogate pair")


def test_rows_of_an_array_are_faults_of_their_own_too(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"a": "\\udc00"}, 7, {"a": ["x", "\\ud83d"]}, {"a": 1}]')
    faults = [row.fault for row in read("a.json", tmp_path)]
    assert "`a` holds '\\udc00'" in str(faults[0])
    assert faults[1] == "expected a JSON object, not int"
    assert "`a[1]` holds" in str(faults[2])
    assert faults[3] is None


def test_a_whole_number_of_any_length_is_read_and_one_without_end_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"a": {"1" * 5_000}}}\n{{"a": {"1" * 200_000}}}\n')
    first, second = read("a.jsonl", tmp_path)
    assert first.values == {"a": (10**5_000 - 1) // 9}
    assert "a whole number of up to 100,000 digits is read" in str(second.fault)
    assert shown(first.values) == "(a number of more than 4,300 digits)"


def test_csv_cells_stay_text_and_empty_ones_are_missing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,answer,level\n007,1e3,\n8,True\n")
    first, second = read("a.csv", tmp_path)
    assert first.values == {"id": "007", "answer": "1e3", "level": None}
    assert second.fault == "the row has 2 cells, and the header 3"


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("a.json", '[{"a": 1},\n{"a": 2}', r"a\.json:2: not valid JSON"),
        ("a.json", '{"train": [{"a": 1}], "test": [{"a": 1}]}', "one object of train, test; write an array"),
        ("a.json", "[]", "no rows in it"),
        ("a.jsonl", "", "no rows in it"),
        ("a.csv", "a,a\n1,2\n", r"a\.csv:1: two columns have one name"),
        ("a.csv", 'a,b\n1,"2"x\n', r"a\.csv:2: not valid \.csv text"),
        ("a.jsonl.gz", JSONL, r"not a complete \.gz file"),
        ("a.parquet", JSONL, "not a parquet file"),
        ("a.xlsx", "", r"can't read \.xlsx files; \.json, \.jsonl, \.csv"),
    ],
)
def test_a_file_that_can_not_be_read_is_one_sentence(
    name: str, text: str, fault: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=fault):
        read(name, tmp_path)


def test_a_torn_download_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(JSONL.encode() * 1000)[:-20])
    with pytest.raises(DataError, match=r"not a complete \.gz file"):
        read_file(tmp_path / "a.jsonl.gz")


def test_a_missing_file_suggests_the_near_miss_beside_it(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(JSONL)
    with pytest.raises(DataError, match=r"trian\.jsonl: no such file; did you mean 'train\.jsonl'\?"):
        read("trian.jsonl", tmp_path)
    with pytest.raises(DataError, match="no such file; there is no folder"):
        read("dta/train.jsonl", tmp_path)


def test_files_of_one_pattern_are_read_in_their_order(tmp_path: Path) -> None:
    for i, row in enumerate(ROWS):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / f"train-0000{i}.parquet")
    assert [row.values for row in read("train-*.parquet", tmp_path)] == ROWS
    with pytest.raises(DataError, match="no file matches this pattern"):
        read("test-*.parquet", tmp_path)


def test_a_folder_has_splits_by_its_files_names_and_rows_with_file_and_line(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    # a column of two types: what a table of one type for each column can't hold
    mixed = '{"question": "?", "answer": 1}\n{"question": "?", "answer": [1, 2], "more": null}\n'
    (folder / "data" / "train-00000.jsonl").write_text(mixed)
    (folder / "data" / "test-00000.jsonl").write_text(JSONL)
    assert [row.values["answer"] for row in read("set", tmp_path)] == [1, [1, 2]]
    test = read("set", tmp_path, "test")
    assert [row.values for row in test] == ROWS
    assert test[1].place == f"{folder}/data/test-00000.jsonl:2"
    with pytest.raises(DataError, match=r"no split 'tset'; did you mean 'test'\?"):
        read("set", tmp_path, "tset")


def test_a_folder_that_datasets_saved_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    saved = datasets.Dataset.from_list(ROWS)
    saved.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=saved, test=saved.select([1])).save_to_disk(tmp_path / "splits")
    assert [row.values for row in read("one", tmp_path)] == ROWS
    assert [row.values for row in read("splits", tmp_path, "test")] == ROWS[1:]
    with pytest.raises(DataError, match="no split 'dev'; there are: test, train"):
        read("splits", tmp_path, "dev")


def test_a_folder_without_data_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no data in this folder can be read"):
        read("empty", tmp_path)
