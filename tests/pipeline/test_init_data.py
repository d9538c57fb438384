"""What `r1 init` makes of data: well-known sets, guessed columns and kinds, test sets, what it refuses."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from r1kit.data.files import read_rows
from r1kit.errors import UserError
from r1kit.pipeline.starting.columns import guess_columns
from r1kit.pipeline.starting.data import look_at_data
from r1kit.pipeline.starting.held_out import find_test
from r1kit.pipeline.starting.well_known import recognise
from r1kit.pipeline.starting.wishes import Wishes

SUMS = [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(20)]
GSM8K = [
    {"question": f"Ann has {n} pens and buys one. How many?", "answer": f"{n} + 1 = {n + 1}\n#### {n + 1}"}
    for n in range(20)
]
AQUA = {"question": "What is 2 + 2?", "options": ["A)3", "B)4", "C)5"], "rationale": "Add.", "correct": "B"}
MMLU = {"question": "Which is largest?", "choices": ["1", "2", "3"], "answer": 2, "subject": "sets"}
MBPP = {
    "text": "Write a function that adds one.",
    "code": "def f(x):\n    return x + 1",
    "task_id": 7,
    "test_list": ["assert f(1) == 2"],
}
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": "def f(x):\n",
    "entry_point": "f",
    "canonical_solution": "    return x + 1\n",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n",
}
VERL = {
    "prompt": [{"role": "user", "content": "What is 2 + 2?"}],
    "reward_model": {"ground_truth": "4", "style": "rule"},
}
MATH = {
    "problem": "What is $2 + 2$?",
    "solution": "It is $\\boxed{4}$.",
    "level": "Level 1",
    "type": "Algebra",
}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        (GSM8K, "gsm8k"),
        ([AQUA], "aqua"),
        ([MMLU], "mmlu"),
        ([MBPP], "mbpp"),
        ([HUMANEVAL], "humaneval"),
        ([VERL], "verl"),
        ([MATH], "math"),
        (SUMS, None),  # a question and an answer, as anybody has them
        ([{"question": "Which?", "options": ["a", "b"], "answer": "a"}], None),
    ],
)
def test_well_known_sets_are_told_by_their_columns(
    rows: list[dict[str, Any]], name: str | None, tmp_path: Path
) -> None:
    source = str(write(tmp_path / "rows.jsonl", rows))
    assert recognise(read_rows(source, split=None, subset=None, base_dir=Path())) == name


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        (
            {"Prompt": "How many are {n} and one?", "Gold": "{n}"},
            ("math", {"question": "Prompt", "answer": "Gold"}),
        ),
        (
            {"nr": "{n}", "Aufgabe zum Text": "Wie viel ist {n} und eins?", "Wert": "3{n}", "Heft": "a b"},
            ("math", {"question": "Aufgabe zum Text", "answer": "Wert"}),
        ),
        (
            {"messages": [{"role": "user", "content": "How many is {n}?"}], "target": "{n}"},
            ("math", {"messages": "messages", "answer": "target"}),
        ),
        (
            {"extra": {"truth": "{n}"}, "query": "How many are {n} and one?"},
            ("math", {"question": "query", "answer": "extra.truth"}),
        ),
        (
            {"stem": "Which one of them is {n}?", "options": ["{n}", "x"], "label": "A"},
            ("choice", {"question": "stem", "options": "options", "answer": "label"}),
        ),
        (
            {"task": "Write a function f for {n} of them.", "tests": ["assert f({n}) == {n}"]},
            ("code", {"question": "task", "tests": "tests"}),
        ),
        (
            {"年级": "3", "题目": "小明有{n}支铅笔，又买了三支，他一共有多少支铅笔？", "结果": "1{n}"},
            ("math", {"question": "题目", "answer": "结果"}),
        ),
        (
            {"puzzle": "Who of the {n} tells the truth?", "answer": "Ann and Bob"},
            ("logic", {"question": "puzzle", "answer": "answer"}),
        ),
        (
            {
                "question": "Why are there {n} of them?",
                "answer": "Because nobody has counted them again since then.",
            },
            ("judged", {"question": "question", "answer": "answer"}),
        ),
    ],
)
def test_columns_and_kind_are_guessed(
    row: dict[str, Any], fields: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    rows = [json.loads(json.dumps(row).replace("{n}", str(n))) for n in range(12)]
    source = str(write(tmp_path / "rows.jsonl", rows))
    guess = guess_columns(read_rows(source, split=None, subset=None, base_dir=Path()), Wishes())
    assert (guess.fields["kind"], guess.fields["columns"]) == fields
    assert f"kind {fields[0]}" in guess.why


def test_a_solution_in_the_answers_column_is_looked_into(tmp_path: Path) -> None:
    rows = [
        {
            "question": f"What is {n} + 1?",
            "solution": f"We add one to {n} and that gives us \\boxed{{{n + 1}}}.",
        }
        for n in range(9)
    ]
    data = look_at_data(Wishes(data=str(write(tmp_path / "rows.jsonl", rows))))
    assert data.fields["answer_in"] == "boxed"
    assert [problem.ground_truth for problem in data.problems] == [str(n + 1) for n in range(9)]
    assert "in the last \\boxed" in data.why


def test_two_columns_that_would_do_and_answers_of_no_clear_kind_are_doubts(tmp_path: Path) -> None:
    rows = [
        {"q": f"Who of the {n} is it?", "first name": f"Ann {n % 5}a", "second name": f"Bob {n % 5}b"}
        for n in range(10)
    ]
    source = str(write(tmp_path / "rows.jsonl", rows))
    guess = guess_columns(read_rows(source, split=None, subset=None, base_dir=Path()), Wishes())
    assert [doubt.flag for doubt in guess.doubts] == ["answer", "kind"]
    assert set(guess.doubts[0].choices) == {"first name", "second name"}
    assert guess.doubts[1].choices == ("logic", "math", "judged")
    said = Wishes(columns={"answer": "first name"}, kind="logic")
    assert not guess_columns(read_rows(source, split=None, subset=None, base_dir=Path()), said).doubts


def test_a_column_that_is_there_twice_is_no_doubt(tmp_path: Path) -> None:
    rows = [row | {"problem": row["question"]} for row in SUMS]
    data = look_at_data(Wishes(data=str(write(tmp_path / "rows.jsonl", rows))))
    assert (data.doubts, data.fields["columns"]["question"]) == ((), "question")


def test_rows_that_can_not_be_used_are_counted_and_left_out(tmp_path: Path) -> None:
    rows = [*SUMS, {"question": "What is 1 + ?", "answer": "see solution"}]
    data = look_at_data(Wishes(data=str(write(tmp_path / "rows.jsonl", rows))))
    assert (len(data.problems), data.num_rows, data.num_left_out) == (20, 21, 1)
    assert data.fields["on_bad"] == "skip"
    assert "stands for a missing one" in data.skipped
    clean = look_at_data(Wishes(data=str(write(tmp_path / "rows.jsonl", SUMS))))
    assert "on_bad" not in clean.fields


def test_a_table_with_a_semicolon_is_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["no", "exercise text", "its value"])
        writer.writerows([n, f"How many are {n} and {n}?", 2 * n] for n in range(15))
    data = look_at_data(Wishes(data=str(path)))
    assert data.fields["columns"] == {"question": "exercise text", "answer": "its value"}
    assert len(data.problems) == 15


@pytest.mark.parametrize(
    ("names", "test", "said"),
    [
        (("train.jsonl", "test.jsonl"), "test.jsonl", "test.jsonl, which lies beside it"),
        (("sums-train.jsonl", "sums-dev.jsonl"), "sums-dev.jsonl", "sums-dev.jsonl, which lies beside it"),
        (("sums.jsonl", "sums_test.jsonl"), "sums_test.jsonl", "sums_test.jsonl, which lies beside it"),
        (("sums.jsonl", "test.jsonl"), "test.jsonl", "test.jsonl, which lies beside it"),
        (("sums.jsonl", "other.jsonl"), None, "2 problems of the data, which are not trained on"),
        (("test.jsonl", "train.jsonl"), None, "2 problems of the data, which are not trained on"),
    ],
)
def test_a_test_set_beside_the_data_is_taken(
    names: tuple[str, str], test: str | None, said: str, tmp_path: Path
) -> None:
    for name in names:
        write(tmp_path / name, SUMS)
    wishes = Wishes(data=str(tmp_path / names[0]))
    found = find_test(wishes, look_at_data(wishes))
    assert found.why == said
    assert (None if found.data is None else Path(found.data.fields["source"]).name) == test


def test_a_file_beside_it_that_is_something_else_is_none(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", SUMS)
    write(tmp_path / "test.jsonl", [{"name": "a"}, {"name": "b"}])
    wishes = Wishes(data=str(tmp_path / "train.jsonl"))
    assert find_test(wishes, look_at_data(wishes)).num_held_out == 2


def test_a_folders_test_split_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "train.jsonl", GSM8K)
    write(folder / "test.jsonl", GSM8K[:4])
    wishes = Wishes(data=str(folder))
    found = find_test(wishes, look_at_data(wishes))
    assert found.data is not None
    assert (found.why, found.data.fields["split"], len(found.data.problems)) == ("its split test", "test", 4)


def test_so_many_are_held_out_as_is_said(tmp_path: Path) -> None:
    source = str(write(tmp_path / "rows.jsonl", SUMS))
    data = look_at_data(Wishes(data=source))
    assert find_test(Wishes(data=source, hold_out=7), data).num_held_out == 7
    assert find_test(Wishes(data=source, hold_out=0), data).num_held_out == 0
    with pytest.raises(UserError, match=r"--hold-out 20: the data has 20 usable problems; some must be left"):
        find_test(Wishes(data=source, hold_out=20), data)


@pytest.mark.parametrize(
    ("wishes", "says"),
    [
        ({"data": "train.jsnol"}, "did you mean 'train.jsonl'?"),
        ({"data": "trian.jsonl"}, "trian.jsonl: no such file; did you mean 'train.jsonl'?"),
        ({"data": "notes.txt"}, "can't read .txt files"),
        ({"data": "notes.jsonl"}, "notes.jsonl:1: not valid JSON"),
        ({"data": "names.jsonl"}, "no column of the data looks like a question (there are name)"),
        ({"data": "ids.jsonl"}, "no column of the data looks like an answer (there are idx, question)"),
        (
            {"data": "train.jsonl", "columns": {"answer": "anwser"}},
            "--answer anwser: no such column in the data; did you mean 'answer'?",
        ),
        (
            {"data": "train.jsonl", "mapping": "gms8k"},
            "--mapping gms8k: no such mapping; did you mean 'gsm8k'?",
        ),
        ({"data": "train.jsonl", "kind": "choice"}, "--question COLUMN --answer COLUMN --kind math"),
        ({"data": ""}, "--data is empty"),
        ({"data": "pairs.jsonl"}, "the data holds preferences (chosen, rejected), and no right answers"),
        ({"data": "sft.jsonl"}, "give it as --sft-data of --goal sft-then-rl"),
    ],
)
def test_data_that_can_not_be_used_is_told_with_what_to_do(
    wishes: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "train.jsonl", SUMS)
    write(tmp_path / "names.jsonl", [{"name": "Ann"}, {"name": "Bob"}])
    write(tmp_path / "ids.jsonl", [{"idx": n, "question": f"What is {n} + 1?"} for n in range(5)])
    write(tmp_path / "pairs.jsonl", [{"prompt": "Why is that?", "chosen": "So.", "rejected": "No."}])
    write(tmp_path / "sft.jsonl", [{"messages": [{"role": "user", "content": "Why?"}], "response": "So."}])
    (tmp_path / "notes.txt").write_text("some notes\n", encoding="utf-8")
    (tmp_path / "notes.jsonl").write_text("some notes\nand more\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        look_at_data(Wishes(**wishes))
    assert says in str(caught.value)
