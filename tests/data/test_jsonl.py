from pathlib import Path

import pytest

from r1kit.data.jsonl import append_jsonl, read_jsonl, write_jsonl
from r1kit.errors import DataError


def test_rows_come_with_their_line_numbers_and_blank_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": "二"}', encoding="utf-8")
    assert list(read_jsonl(path)) == [(1, {"a": 1}), (3, {"a": "二"})]


def test_a_broken_line_is_named_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": \n', encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.jsonl:2: not valid JSON"):
        list(read_jsonl(path))


def test_a_line_break_in_a_text_is_named_with_its_column(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": "b\n"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.jsonl:1: not valid JSON: Invalid control character at column 9"):
        list(read_jsonl(path))


def test_a_line_that_is_no_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("[1, 2]\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.jsonl:1: expected a JSON object, not list"):
        list(read_jsonl(path))


def test_bytes_that_are_not_utf8_are_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": "\xff"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2: not UTF-8"):
        list(read_jsonl(path))


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n')
    assert list(read_jsonl(path)) == [(1, {"a": 1})]


def test_a_missing_file_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl: no such file"):
        list(read_jsonl(tmp_path / "none.jsonl"))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_jsonl(path, [{"a": 1}])
    with pytest.raises(ValueError, match="JSON compliant"):
        write_jsonl(path, [{"a": 2}, {"a": float("nan")}])
    assert list(read_jsonl(path)) == [(1, {"a": 1})]
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize("torn_length", [3, 70_000])
def test_a_killed_append_costs_its_own_line_only(tmp_path: Path, torn_length: int) -> None:
    path = tmp_path / "log.jsonl"
    append_jsonl(path, [{"i": 0}, {"i": 1}])
    with path.open("a", encoding="utf-8") as file:
        file.write('{"i": "' + "x" * torn_length)
    assert [row for _, row in read_jsonl(path, torn_tail=True)] == [{"i": 0}, {"i": 1}]
    append_jsonl(path, [{"i": 2}])
    assert [row["i"] for _, row in read_jsonl(path)] == [0, 1, 2]


def test_a_log_that_is_all_torn_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"i": ', encoding="utf-8")
    append_jsonl(path, [{"i": 5}])
    assert list(read_jsonl(path)) == [(1, {"i": 5})]
