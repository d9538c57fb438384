"""Columns of somebody's own file: nested and joined ones, what outranks what, and answers by their type."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from r1kit.data.sources import ProblemSource, load_problems
from r1kit.errors import DataError
from r1kit.types import Problem

TURNS = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "It is \\boxed{2}."}]


def load(folder: Path, *rows: dict, note=None, **source) -> list[Problem]:
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return load_problems(ProblemSource(source="a.jsonl", **source), seed=0, base_dir=folder, note=note)


def test_a_column_in_a_column_is_named_by_dots_and_an_entry_by_its_number(tmp_path: Path) -> None:
    row = {
        "prompt": [{"role": "user", "content": "17 + 5?"}],
        "reward_model": {"ground_truth": "22", "style": "rule"},
        "extra_info": json.dumps({"answers": ["22", "twenty-two"], "index": 7}),
        "a.b": "yes",
    }
    (problem,) = load(
        tmp_path, row, columns={"messages": "prompt", "answer": "reward_model.ground_truth", "tier": "a.b"}
    )
    assert (problem.question, problem.ground_truth, problem.tier) == ("17 + 5?", "22", "yes")
    (problem,) = load(
        tmp_path,
        row,
        columns={
            "question": "prompt[0].content",
            "answer": "extra_info.answers.-2",
            "id": "extra_info.index",
        },
    )
    assert (problem.question, problem.ground_truth, problem.id) == ("17 + 5?", "22", "7")


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("reward_model.truth", "no column 'reward_model.truth'; in reward_model: there are: style"),
        ("reward_modl.style", "no column 'reward_modl.style'; did you mean 'reward_model'"),
        ("answers.first", "answers is a list, so name an entry by its number: answers.0"),
        ("answers.2", "answers has 1 entries"),
        ("question.text", "question is str, and has no fields"),
        ("reward_model", 'map what is in it, such as columns = { answer = "reward_model.style" }'),
    ],
)
def test_a_column_in_a_column_that_is_not_there_says_what_is(answer: str, fault: str, tmp_path: Path) -> None:
    row = {"question": "1?", "reward_model": {"style": "rule"}, "answers": ["1"]}
    with pytest.raises(DataError) as caught:
        load(tmp_path, row, columns={"answer": answer})
    assert fault in str(caught.value)
    assert str(caught.value).count("a.jsonl:1: ") == 1


def test_several_columns_are_joined_and_missing_ones_left_out(tmp_path: Path) -> None:
    rows = [
        {"Body": " Tom has 3 apples. ", "Question": "How many?", "Answer": 3.0, "unit": "apples", "n": 1},
        {"Body": None, "Question": "And now?", "Answer": "4", "unit": None, "n": 2},
    ]
    columns = {"question": ["Body", "Question"], "answer": ["Answer", "unit"], "id": ["unit", "n"]}
    first, second = load(tmp_path, *rows, columns=columns)
    assert (first.question, first.ground_truth, first.id) == (
        "Tom has 3 apples.\nHow many?",
        "3 apples",
        "apples-1",
    )
    assert (second.question, second.ground_truth, second.id) == ("And now?", "4", "2")
    with pytest.raises(
        ValidationError, match="'options' takes one column; several can be joined for question"
    ):
        ProblemSource(source="a.jsonl", columns={"options": ["a", "b"]})


def test_what_the_recipe_maps_outranks_an_unmapped_conversation(tmp_path: Path) -> None:
    row = {"problem": "1+1?", "answer": "2", "messages": TURNS}
    (problem,) = load(tmp_path, row, columns={"question": "problem"})
    assert problem.messages == ({"role": "user", "content": "1+1?"},)
    with pytest.raises(ValidationError, match="both `question` and `messages` are mapped"):
        ProblemSource(source="a.jsonl", columns={"question": "problem", "messages": "messages"})


def test_a_turn_of_the_assistants_never_gets_into_a_prompt(tmp_path: Path) -> None:
    fault = "the last turn of messages is the assistant's, and would be part of the prompt"
    with pytest.raises(DataError, match=rf"a\.jsonl:1: {fault}"):
        load(tmp_path, {"question": "1+1?", "answer": "2", "messages": TURNS})
    with pytest.raises(DataError, match=fault):
        load(tmp_path, {"id": "a", "kind": "math", "ground_truth": "2", "messages": TURNS})
    # one in the middle is a part of the conversation
    more = [*TURNS, {"role": "user", "content": "2+2?"}]
    (problem,) = load(tmp_path, {"answer": "4", "messages": more})
    assert len(problem.messages) == 3


def test_a_question_that_is_no_text_says_what_it_is(tmp_path: Path) -> None:
    for question, fault in [
        (TURNS[:1], r'holds a conversation; map columns = \{ messages = "question" \}'),
        ({"text": "1?"}, "the question must be text, not {'text'"),
        (7, "the question must be text, not 7"),
        (None, "the question is empty"),
        (" ", "the question is empty"),
    ]:
        with pytest.raises(DataError, match=fault):
            load(tmp_path, {"question": question, "answer": "1"})


def test_a_record_of_ours_with_a_slip_suggests_the_near_miss(tmp_path: Path) -> None:
    record = {"id": "a", "messages": TURNS[:1], "ground_truth": 2.0}
    with pytest.raises(
        DataError, match=r"a\.jsonl:1: `kind` is 'Math': there is no such kind; did you mean `math`"
    ):
        load(tmp_path, {**record, "kind": "Math"})
    with pytest.raises(DataError, match="`domain` must be text, not 7"):
        load(tmp_path, {**record, "kind": "math", "domain": 7})
    (problem,) = load(tmp_path, {**record, "kind": "math", "domain": None})
    assert (problem.ground_truth, problem.domain) == ("2", "math")


def test_an_unmapped_language_that_is_no_code_is_not_taken_for_one(tmp_path: Path) -> None:
    row = {"question": "1?", "answer": "1", "language": "English"}
    assert load(tmp_path, row)[0].language is None
    assert load(tmp_path, {**row, "language": "zh"})[0].language == "zh"
    with pytest.raises(DataError, match="the language must be a code such as 'en' or 'zh', not 'English'"):
        load(tmp_path, row, columns={"language": "language"})


def test_an_index_with_gaps_in_its_column_is_an_index(tmp_path: Path) -> None:
    row = {"question": "?", "options": ["x", "y", "z"]}
    assert load(tmp_path, {**row, "answer": 2.0}, kind="choice", answers_from=0)[0].ground_truth == "C"
    assert load(tmp_path, {**row, "answer": ["B"]}, kind="choice")[0].ground_truth == "B"


def test_the_answer_is_taken_out_of_the_solution_where_the_recipe_says_where(tmp_path: Path) -> None:
    row = {"question": "3+4?", "solution": "We add and have 3 + 4 = 7, so that the answer is $\\boxed{7}$."}
    columns = {"answer": "solution"}
    with pytest.raises(DataError, match=r'a complete solution with a .boxed answer; set answer_in = "boxed"'):
        load(tmp_path, row, columns=columns)
    assert load(tmp_path, row, columns=columns, answer_in="boxed")[0].ground_truth == "7"
    with pytest.raises(DataError, match="no answer after ####"):
        load(tmp_path, row, columns=columns, answer_in="####")


GSM8K = [{"question": f"{i} + 1?", "answer": f"We add.\n#### {i + 1}"} for i in range(7)]


def test_a_well_known_set_that_is_mapped_plainly_is_two_lines_with_the_ready_mapping(tmp_path: Path) -> None:
    plain = {"question": "question", "answer": "answer"}  # as `r1 init` writes them
    with pytest.raises(DataError) as caught:
        load(tmp_path, *GSM8K, columns=plain)
    rows, hint = str(caught.value).splitlines()
    assert rows.startswith(
        f"7 rows: {tmp_path}/a.jsonl:1: the answer is a complete solution that ends in '#### 1'; set"
    )
    assert 'set mapping = "gsm8k", and drop `columns`' in hint
    assert [p.ground_truth for p in load(tmp_path, *GSM8K, mapping="gsm8k")] == list("1234567")
    # its columns have other names than the recipe says
    math = [{"problem": f"{i} + 1?", "solution": f"It is $\\boxed{{{i + 1}}}$."} for i in range(3)]
    with pytest.raises(DataError, match=r"3 rows: .* no column 'question'.*\n.*set mapping = \"math\""):
        load(tmp_path, *math, columns=plain)


def test_no_ready_mapping_is_named_for_rows_that_it_would_read_alike(tmp_path: Path) -> None:
    rows = [{"problem": "1 + 1?", "answer": "2"}] * 5
    with pytest.raises(DataError) as caught:
        load(tmp_path, *rows, columns={"question": "problem"})
    (line,) = str(caught.value).splitlines()
    assert line.startswith("4 rows: ")
    assert "the same problem" in line


def test_skipped_rows_are_told_by_kind_also_those_that_could_not_be_read(tmp_path: Path) -> None:
    truths = ["2", "notfound", "N/A", "3", {"a": 1}, None, "proof", "\ud83d"]
    rows = [{"question": f"{i}?", "answer": truth} for i, truth in enumerate(truths)]
    notes: list[str] = []
    problems = load(tmp_path, *rows, on_bad="skip", note=notes.append)
    assert [p.ground_truth for p in problems] == ["2", "3"]
    head, *kinds = notes[0].splitlines()
    assert head == "a.jsonl: 2 problems kept, 6 skipped:"
    assert [line.partition(" rows: ")[0] for line in kinds if " rows: " in line] == ["3"]
    assert len(kinds) == 4


def test_two_problems_with_one_id_are_not_called_the_same(tmp_path: Path) -> None:
    rows = [{"id": 1, "question": f"{i}?", "answer": "1"} for i in range(2)]
    with pytest.raises(
        DataError, match=r"a\.jsonl:2: another problem has its id '1' too, at '.*:1'; map `id`"
    ):
        load(tmp_path, *rows)
