"""Faults of rows: one line a kind, with a count, an example and places."""

from r1kit.data.faults import Fault, parse_fault, shown, summarise


def test_faults_that_differ_in_values_alone_are_one_line_with_count_example_and_places() -> None:
    faults = [
        Fault(f"train.jsonl:{n}", f"the truth '{n} apples' is no number (id 'a{n}')") for n in range(1, 8)
    ]
    assert summarise(faults) == [
        "7 rows: train.jsonl:1: the truth '1 apples' is no number (id 'a1'); the same at train.jsonl:2, "
        "train.jsonl:3, train.jsonl:4 and 3 more"
    ]
    assert summarise(faults[:2], fix="fix") == [
        "2 rows: train.jsonl:1: the truth '1 apples' is no number (id 'a1'); the same at train.jsonl:2; fix"
    ]
    assert summarise(faults[:1]) == ["train.jsonl:1: the truth '1 apples' is no number (id 'a1')"]


def test_a_thousand_rows_of_two_kinds_are_two_lines_in_order_of_appearance() -> None:
    faults = [
        Fault(f"t.parquet row {n}", "the question is empty" if n % 2 else f"the answer {n}.5 is long")
        for n in range(1, 1001)
    ]
    lines = summarise(faults)
    assert [line.split(": ")[0] for line in lines] == ["500 rows", "500 rows"]
    assert "the question is empty" in lines[0]
    assert "and 496 more" in lines[0]


def test_quotes_and_apostrophes_inside_values_and_words_do_not_split_a_kind() -> None:
    values = ["it's", 'say "hi"', "a \\' b", "", 'it\'s "both"', "line\nbreak"]
    faults = [Fault(f"f:{n}", f"the row's truth can't be {value!r}; don't") for n, value in enumerate(values)]
    assert len(summarise(faults)) == 1


def test_other_words_are_another_kind_and_a_kind_that_is_given_decides() -> None:
    assert len(summarise([Fault("f:1", "`messages` is missing"), Fault("f:2", "`response` is missing")])) == 2
    given = [Fault("f:1", "def f(): pass", kind="code"), Fault("f:2", "print('x')", kind="code")]
    assert summarise(given) == ["2 rows: f:1: def f(): pass; the same at f:2"]


def test_long_values_are_cut_in_their_middle() -> None:
    [line] = summarise([Fault("f:1", f"the truth {'x' * 5000 + 'end'!r} is long.")])
    assert len(line) < 200
    assert "xend' is long" in line
    assert len(shown("y" * 1000)) < 120
    assert shown("short") == "'short'"


def test_a_message_is_taken_apart_into_its_place_and_sentence() -> None:
    assert parse_fault("/a b/t.jsonl:17: no `x`: y") == Fault("/a b/t.jsonl:17", "no `x`: y")
    assert parse_fault("gsm8k[train] row 3: empty") == Fault("gsm8k[train] row 3", "empty")
    assert parse_fault("f.jsonl: no such file") == Fault("", "f.jsonl: no such file")
    assert str(parse_fault("t.jsonl:17: no")) == "t.jsonl:17: no"
