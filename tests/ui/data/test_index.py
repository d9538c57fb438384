"""The index of a file and the search in it."""

import json
from pathlib import Path

import numpy as np
import pytest

from r1kit.ui.data import index as index_module
from r1kit.ui.data import lengths, search
from r1kit.ui.data.entries import marked, read_entry, sample_name, split_thought
from r1kit.ui.data.index import Index, Indexes, hash_of
from r1kit.ui.data.lengths import measure_for
from r1kit.ui.data.near import has_near, near_groups, share, signature
from r1kit.ui.data.search import Filters, duplicates, find, iter_lines, kept_rows
from tests.ui.data.made import dropped, pair, record, write_rows


def index_of(path: Path, indexes: Indexes | None = None) -> Index:
    found = (indexes or Indexes()).get(path, wait=60)
    assert found is not None
    assert found.done.is_set()
    return found


def numbered(folder: Path, num: int) -> Path:
    path = folder / "data.jsonl"
    write_rows(path, [record(i, f"word {'more ' * i}end {i}") for i in range(num)])
    return path


def test_rows_are_found_again_and_what_is_damaged_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    good = [json.dumps(record(i, f"Text {i}")) for i in range(3)]
    path.write_text(f"{good[0]}\nnot json\n\n[1]\n{good[1]}\n{good[2]}")
    index = index_of(path)
    # the last line is unfinished: whoever writes it has not come to its end
    assert [index.entry(row).texts[0].text for row in range(index.num_rows)] == ["Text 0", "Text 1"]
    assert index.num_faults == 2
    assert index.faults == [f"{path}:{n} is damaged, and left out here" for n in (2, 4)]
    path.write_text("\n".join(good) + "\n")
    again = Indexes().get(path, wait=60)
    assert again is not None
    assert (again.num_rows, again.num_faults) == (3, 0)


def test_a_number_that_no_float_holds_leaves_the_row_without_it(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    numbers = ("1" + "0" * 400, "-1e999", "NaN", "1e300", "0.5")
    rows = [json.dumps(pair(i, f"good {i}", f"bad {i}", difference=7.25)) for i in range(len(numbers))]
    path.write_text("".join(row.replace("7.25", n) + "\n" for row, n in zip(rows, numbers, strict=True)))
    index = index_of(path)
    assert (index.num_rows, index.num_faults) == (5, 0)
    assert np.isnan(index.differences).tolist() == [True] * 4 + [False]
    assert index.entry(0).difference is None


def test_a_row_that_cannot_be_measured_is_in_no_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = index_module.hash_of

    def odd(text: str) -> int:
        if "4" in text:
            raise OverflowError("too large")
        return real(text)

    monkeypatch.setattr(index_module, "hash_of", odd)
    index = index_of(numbered(tmp_path, 6))
    assert (index.num_rows, index.num_faults) == (5, 1)
    assert "data.jsonl:5 can't be read, and is left out here: too large" in index.faults[0]
    columns = [*index.lengths, index.differences, index.origin_offsets, *index.hashes.values()]
    columns += [column.codes for column in index.columns.values()]
    assert {len(column) for column in columns} == {5}
    assert [index.entry(row).problem_id for row in range(5)] == ["p/0", "p/1", "p/2", "p/3", "p/5"]


def test_an_index_is_kept_until_its_file_changes_and_few_rows_are_kept(tmp_path: Path) -> None:
    path = numbered(tmp_path, 10)
    indexes = Indexes(most_rows=15)
    first = index_of(path, indexes)
    assert index_of(path, indexes) is first
    write_rows(path, [record(0, "new")])
    assert index_of(path, indexes).num_rows == 1
    others = [tmp_path / str(i) for i in range(3)]
    for folder in others:
        folder.mkdir()
        index_of(numbered(folder, 10), indexes)
    assert index_of(others[2] / "data.jsonl", indexes) is index_of(others[2] / "data.jsonl", indexes)
    assert indexes.num_rows <= 15
    assert indexes.get(tmp_path / "none.jsonl") is None


def test_a_row_costs_a_bounded_number_of_bytes_whatever_its_text(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    write_rows(path, [record(i % 7, f"{i} " + "long text " * 200) for i in range(500)])
    index = index_of(path)
    arrays = [index.offsets, index.origin_offsets, index.differences, *index.lengths, *index.hashes.values()]
    arrays += [column.codes for column in index.columns.values()]
    assert sum(part.itemsize for part in arrays) == 70
    assert index.columns["domain"].counts() == {"words": 286, "sums": 214}  # 0, 2, 4, 6 of 0 to 6 are words


def test_filters_and_orders(tmp_path: Path) -> None:
    index = index_of(numbered(tmp_path, 10))
    assert index.measure.unit == "words"
    assert find(index, Filters(domain="sums")).rows.tolist() == [1, 3, 5, 7, 9]
    assert find(index, Filters(domain="nothing")).rows.tolist() == []
    assert find(index, Filters(shortest=10, longest=11)).rows.tolist() == [7, 8]  # row i has i + 3 words
    assert find(index, Filters(order="longest", domain="sums")).rows.tolist() == [9, 7, 5, 3, 1]
    assert find(index, Filters(order="shortest")).rows.tolist() == list(range(10))
    assert find(index, Filters(q="QUESTION 7?")).rows.tolist() == [7]
    assert find(index, Filters(q="p/3")).rows.tolist() == [3]
    assert find(index, Filters(q="end 4", domain="sums")).rows.tolist() == []
    lines = list(iter_lines(index, Filters(q="more more more more more more more")))
    assert [json.loads(line)["problem_id"] for line in lines] == ["p/7", "p/8", "p/9"]


def test_text_is_found_over_line_breaks_quotes_and_in_any_script(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    texts = ['He said "yes"\nand left', "最大的数字是多少", "C:\\path", "plain Straße", "C:\\new  file\tof"]
    write_rows(path, [record(i, text) for i, text in enumerate(texts)])
    index = index_of(path)
    for q, rows in (
        ('"yes" and', [0]),
        ("yes", [0]),
        ('said  "YES"', [0]),
        ("数字", [1]),
        ("c:\\PATH", [2]),
        ("STRASSE", [3]),
        ("nowhere", []),
        ("new file of", [4]),
    ):
        assert find(index, Filters(q=q)).rows.tolist() == rows, q


def test_a_search_that_is_cut_short_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_ROWS_AT_ONCE", 1)
    index = index_of(numbered(tmp_path, 30))
    seen = []
    while True:
        found = find(index, Filters(q="end"), seconds=-1)  # one row at a time
        seen.append(found.searched)
        if found.is_complete:
            break
    assert seen == list(range(1, 31))
    assert found.rows.tolist() == list(range(30))
    assert find(index, Filters(q="end", order="longest"), seconds=-1).rows.tolist() == list(range(29, -1, -1))


def test_text_is_found_in_a_damaged_file_and_among_few_rows_of_many(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    lines = [json.dumps(record(i, f"Text {i % 10} \u00e9")) for i in range(2_000)]  # é is written as a code
    path.write_text("\n".join([*lines[:700], "broken", "", *lines[700:]]) + "\n")
    index = index_of(path)
    assert find(index, Filters(q="text 7")).rows.tolist() == list(range(7, 2_000, 10))
    assert find(index, Filters(q="7 É", domain="sums")).rows.tolist() == list(range(7, 2_000, 10))
    assert find(index, Filters(q="question 77?")).rows.tolist() == [77]


def test_duplicates_by_what_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    write_rows(
        path,
        [
            record(1, "It is 3."),
            record(1, "it  is 3."),
            record(2, "It is 3."),
            record(2, "It is 47."),
            record(3, "Something else."),
        ],
    )
    index = index_of(path)
    assert duplicates(index, "record", most=9) == ([(0, 2)], 1, 1)
    assert duplicates(index, "response", most=9) == ([(0, 3)], 1, 2)
    assert duplicates(index, "question", most=9) == ([(0, 2), (2, 2)], 2, 2)
    assert duplicates(index, "numbers", most=9) == ([(0, 4)], 1, 3)
    assert find(index, Filters(same="record")).rows.tolist() == [0, 1]
    assert find(index, Filters(same="numbers", like=4)).rows.tolist() == [0, 1, 2, 3]
    assert find(index, Filters(same="numbers", like=99)).rows.tolist() == []


def test_samples_that_became_records_are_told_from_those_that_did_not(tmp_path: Path) -> None:
    said = "<think>\na b\n</think>\n\nIt is 3."
    write_rows(tmp_path / "data.jsonl", [record(1, said)])
    rows = [
        {"name": json.dumps(["reasoning", "p/1", n]), "token_ids": [1] * (n + 2), "text": text}
        for n, text in enumerate(["<think>a b</think>It is 3.", "<think>a b</think>It is 4."])
    ]
    write_rows(tmp_path / "samples.jsonl", [{**row, "finish_reason": "stop"} for row in rows])
    samples, records = index_of(tmp_path / "samples.jsonl"), index_of(tmp_path / "data.jsonl")
    kept = kept_rows(samples, records)
    assert kept.tolist() == [True, False]
    assert find(samples, Filters(kept="no"), is_kept=kept).rows.tolist() == [1]
    entry = samples.entry(1)
    assert (entry.problem_id, entry.source, entry.num_tokens) == ("p/1", "reasoning", 3)


def test_lengths_are_in_tokens_words_or_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measure_for(10, None)("Two words") == 2
    assert measure_for(10, None)("三个字 and more") == 5
    broken = tmp_path / "tokenizer.json"
    broken.write_text("{")
    assert measure_for(10, broken).unit == "words"
    monkeypatch.setattr(lengths, "MOST_BYTES_COUNTED", 5)
    assert (measure_for(10, broken).unit, measure_for(10, broken)("Two words")) == ("characters", 9)


def test_the_index_of_a_log_goes_on_where_the_log_has_grown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "samples.jsonl"
    rows = [
        {"name": f'["a", "p/{i}", 0]', "token_ids": [i], "text": f"Text {i}", "finish_reason": "stop"}
        for i in range(5)
    ]
    lines = [json.dumps(row) + "\n" for row in rows]
    path.write_text("".join(lines[:2]) + "broken\n" + lines[2][:10])
    indexes = Indexes()
    first = index_of(path, indexes)
    assert (first.num_rows, first.num_faults) == (2, 1)
    read: list[int] = []
    monkeypatch.setattr("r1kit.ui.data.index.parse", lambda line: read.append(1) or json.loads(line))
    with path.open("a") as file:
        file.write(lines[2][10:] + "".join(lines[3:]))
    second = index_of(path, indexes)
    assert (second.num_rows, second.num_faults, len(read)) == (5, 1, 3)
    assert [second.entry(row).problem_id for row in range(5)] == [f"p/{i}" for i in range(5)]
    assert find(second, Filters(q="text 4")).rows.tolist() == [4]
    assert first.num_rows == 2  # a page that still has it is not disturbed
    path.write_text("".join(reversed(lines)) * 3)  # another log: the stage began anew
    assert [index_of(path, indexes).entry(row).problem_id for row in (0, 14)] == ["p/4", "p/0"]
    path.write_text(lines[3])
    assert [index_of(path, indexes).entry(0).problem_id] == ["p/3"]


def test_pairs_in_the_order_of_their_difference(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    write_rows(
        path,
        [pair(i, "a", "b", **more) for i, more in enumerate(({"difference": 1.5}, {}, {"difference": 2}))],
    )
    index = index_of(path)
    assert find(index, Filters(order="closest")).rows.tolist() == [0, 2, 1]
    assert find(index, Filters(order="clearest")).rows.tolist() == [2, 0, 1]


def test_a_pair_has_two_lengths(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    write_rows(path, [pair(1, "one two three", "one"), pair(2, "a", "b c")])
    index = index_of(path)
    assert index.is_pairs
    assert index.all_lengths(0).tolist() == [3, 1]
    assert index.all_lengths(1).tolist() == [1, 2]
    assert index.all_lengths().dtype == np.int64
    assert index.length(0) == 4


def test_rows_of_any_shape_become_entries() -> None:
    assert read_entry({}).texts == ()
    assert read_entry({"messages": "no list", "response": ["not", "text"]}).texts[0].text == '["not", "text"]'
    assert read_entry({"response": "r", "safe": False}).mark == "unsafe"
    assert read_entry({"response": "r", "accepted": True}).mark == "accepted"
    waiting = read_entry(
        {"response": "r", "accepted": True, "review": {"id": "3f", "problem": {"id": "p", "kind": "math"}}}
    )
    assert (waiting.problem_id, waiting.domain) == ("p", "math")
    two = read_entry({**dropped("no_preference", "a"), "other": "b", "name": "x", "other_name": "y"})
    assert (two.is_pair, two.names, two.mark) == (True, ("x", "y"), "no_preference")
    reply = read_entry(
        {"name": '["direct", "p", 0]', "content": "It is.", "reasoning": "So.", "finish_reason": "stop"}
    )
    assert reply.texts[0].text == "<think>\nSo.\n</think>\n\nIt is."
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    assert read_entry({"messages": turns, "response": "r"}).question == "system: Be kind.\n\nuser: Hi"
    for name in ("", "[]", "[1]", "{", '"text"', "[" * 100_000):
        assert sample_name(name) == ("", "")


def test_what_a_model_wrote_is_shown_as_text() -> None:
    assert str(marked("<b>One</b> one", "one")) == "&lt;b&gt;<mark>One</mark>&lt;/b&gt; <mark>one</mark>"
    assert str(marked("a <i>", "")) == "a &lt;i&gt;"
    assert str(marked("x\ny", "x y")) == "<mark>x\ny</mark>"
    assert split_thought("<think>\nwhy\n</think>\n\nso") == ("why", "so")
    assert split_thought("before <think>why</think> so")[0] == ""
    assert hash_of("\ud800") != hash_of("")


def test_near_duplicates_share_most_of_their_runs_of_words(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    long = " ".join(f"word{i}" for i in range(60))
    texts = [
        long,
        "something else altogether, with other words in it",
        f"{long} and one more",
        long.upper().replace(" ", "\n"),
        " ".join(f"word{i}" for i in range(40, 100)),  # a third of it is the same
        "short",
        "Short!",
        "",
    ]
    write_rows(path, [record(i, text) for i, text in enumerate(texts)])
    index = index_of(path)
    assert near_groups(index).tolist() == [0, 1, 0, 0, 4, 5, 5, 7]
    assert find(index, Filters(same="near")).rows.tolist() == list(range(8))  # not known yet: no filter
    assert has_near(index, wait=60)
    assert duplicates(index, "near", most=9) == ([(0, 3), (5, 2)], 2, 3)
    assert find(index, Filters(same="near", like=3)).rows.tolist() == [0, 2, 3]


def test_the_share_of_two_texts_is_estimated() -> None:
    one = " ".join(f"w{i}" for i in range(200))
    for num_changed in (0, 20, 100):
        other = " ".join(f"w{i}" if i < 200 - num_changed else f"x{i}" for i in range(200))
        same, every = 198 - num_changed, 198 + num_changed
        # 64 functions: a standard error of at most 1/16
        assert share(signature(one, {}), signature(other, {})) == pytest.approx(same / every, abs=4 / 16)
    assert share(signature(one, {}), signature(one.upper(), {})) == 1.0


def test_a_kept_search_is_not_used_once_other_rows_are_kept(tmp_path: Path) -> None:
    index = index_of(numbered(tmp_path, 4))
    filters = Filters(q="word", kept="yes")
    first = find(index, filters, is_kept=np.array([True, False, False, False]))
    second = find(index, filters, is_kept=np.array([True, True, False, True]))
    assert (first.rows.tolist(), second.rows.tolist()) == ([0], [0, 1, 3])
