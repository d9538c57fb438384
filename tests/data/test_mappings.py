import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from r1kit.data import hub
from r1kit.data.mappings import PROBLEM_MAPPINGS, lettered_options
from r1kit.data.sources import ProblemSource, load_problems
from r1kit.data.truths import last_boxed
from r1kit.errors import DataError
from r1kit.types import Problem

FIXTURES = Path(__file__).parent / "fixtures"


def load(name: str, *, file: str = "", on_bad: str = "error", note=None) -> list[Problem]:
    source = ProblemSource(source=file or f"{name}.jsonl", mapping=name, on_bad=on_bad)
    return load_problems(source, seed=0, base_dir=FIXTURES, note=note)


def test_gsm8k_reads_the_answer_after_the_hashes_without_thousands_separators() -> None:
    problems = load("gsm8k")
    assert [p.ground_truth for p in problems] == ["36", "1200"]
    assert {p.kind for p in problems} == {"math"}


def test_math_takes_the_last_box_with_balanced_braces() -> None:
    problems = load("math")
    assert [p.ground_truth for p in problems] == ["3", r"\frac{3}{4}", r"\{2\}"]
    assert problems[1].tier == "Level 2"
    assert problems[1].metadata["subject"] == "Prealgebra"


def test_math_500_has_its_answer_in_a_column() -> None:
    (problem,) = load("math-500")
    assert (problem.id, problem.ground_truth) == ("test/prealgebra/1.json", "35")


def test_aime_answers_lose_their_leading_zeros_whatever_the_columns_are_called() -> None:
    assert [(p.id, p.ground_truth) for p in load("aime")] == [("aime-2024-60", "73"), ("aime-2024-61", "9")]
    assert [p.ground_truth for p in load("aime", file="aime-other-columns.jsonl")] == ["204"]


def test_openr1_math_keeps_letters_as_choices_and_refuses_proofs() -> None:
    with pytest.raises(DataError, match=r"openr1-math\.jsonl:3: a proof has no answer"):
        load("openr1-math")
    notes: list[str] = []
    problems = load("openr1-math", on_bad="skip", note=notes.append)
    assert [(p.id, p.kind, p.ground_truth) for p in problems] == [
        ("u-1", "math", "180"),
        ("u-2", "choice", "B"),
    ]
    assert problems[1].metadata["options"] == ["4", "7", "9"]
    assert "1 skipped" in notes[0]


def test_mbpp_shows_one_test_and_keeps_all() -> None:
    (problem,) = load("mbpp")
    assert problem.question.endswith("assert add_three(1) == 4")
    assert [t["code"] for t in problem.tests] == ["assert add_three(1) == 4", "assert add_three(-3) == 0"]


def test_apps_has_stdin_tests_and_call_tests_and_refuses_problems_without() -> None:
    with pytest.raises(DataError, match=r"apps\.jsonl:3: input_output can't be read"):
        load("apps")
    stdin, call = load("apps", on_bad="skip")
    assert stdin.tests[1] == {"type": "stdin", "input": "3 4\n", "output": "7\n"}
    assert call.tests == ({"type": "call", "function": "larger", "arguments": [1, 2], "output": 2},)
    assert call.question.endswith("def larger(a, b):")


def test_a_ready_mapping_by_name_reads_its_own_place_on_the_hub(monkeypatch) -> None:
    import datasets

    asked = []

    def fake(name: str, subset: str | None, *, split: str):
        asked.append((name, subset, split))
        return [{"question": "1+1?", "answer": "#### 2"}]

    monkeypatch.setattr(hub, "unreachable", lambda: None)
    monkeypatch.setattr(datasets, "load_dataset", fake)
    source = ProblemSource(source="gsm8k", split="test")
    (problem,) = load_problems(source, seed=0, base_dir=FIXTURES)
    assert asked == [("openai/gsm8k", "main", "test")]
    assert (problem.ground_truth, problem.source) == ("2", "gsm8k")


def test_an_unknown_mapping_suggests_the_near_miss_and_columns_do_not_go_with_one() -> None:
    with pytest.raises(ValidationError, match="did you mean 'gsm8k'"):
        ProblemSource(source="x.jsonl", mapping="gsm-8k")
    with pytest.raises(ValidationError, match="knows its columns"):
        ProblemSource(source="x.jsonl", mapping="gsm8k", columns={"question": "q"})


@pytest.mark.parametrize("name", sorted(PROBLEM_MAPPINGS))
def test_a_row_of_another_schema_names_the_column_that_is_missing(name: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"unrelated": 1}\n')
    with pytest.raises(DataError, match=r"x\.jsonl:1: no (column|answer)"):
        load_problems(ProblemSource(source="x.jsonl", mapping=name), seed=0, base_dir=tmp_path)


@pytest.mark.parametrize(
    ("text", "boxed"),
    [
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\sqrt{\frac{a}{b}}}.", r"\sqrt{\frac{a}{b}}"),
        (r"\boxed{unclosed", None),
        ("none", None),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
    ],
)
def test_last_boxed(text: str, boxed: str | None) -> None:
    assert last_boxed(text) == boxed


@pytest.mark.parametrize(
    ("question", "options"),
    [
        ("Which? (A) 4 (B) 7", ["4", "7"]),
        ("Which?\nA. 3\nB. 4 cm\nC. 5", ["3", "4 cm", "5"]),
        (r"Find it. $\textbf{(A)}\ 12 \qquad\textbf{(B)}\ \frac{3}{4}$", ["12", r"\frac{3}{4}"]),
        ("See part (B) and (A).", []),
        ("No options.", []),
    ],
)
def test_lettered_options(question: str, options: list[str]) -> None:
    assert lettered_options(question) == options


def test_code_sets_bring_their_own_solution_and_the_odd_shapes_of_apps_are_read(tmp_path: Path) -> None:
    (problem,) = load("mbpp")
    assert problem.reference == "def add_three(n):\n    return n + 3"
    cases = [
        {"inputs": [["1", "2"]], "outputs": [["3", "4"]]},
        {"fn_name": "f", "inputs": [[1]], "outputs": [[[2]]]},
    ]
    rows = [
        {"problem_id": i, "question": "?", "solutions": '["a", "b"]', "input_output": json.dumps(case)}
        for i, case in enumerate(cases)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = ProblemSource(source="a.jsonl", mapping="apps")
    lines, wrapped = load_problems(source, seed=0, base_dir=tmp_path)
    assert lines.tests == ({"type": "stdin", "input": "1\n2", "output": "3\n4"},)
    assert (wrapped.tests[0]["output"], wrapped.tests[0]["or_output"]) == ([[2]], [2])
    assert lines.reference == "a"


def load_rows(folder: Path, name: str, *rows: dict) -> list[Problem]:
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_problems(ProblemSource(source="a.jsonl", mapping=name), seed=0, base_dir=folder)


def test_svamp_joins_its_two_columns_into_one_text(tmp_path: Path) -> None:
    rows = [
        {"ID": "c-1", "Body": "Ann has 3 pens. ", "Question": "How many?", "Answer": 3.0},
        {"ID": "c-2", "Body": "If Ann has 3 pens", "Question": "how many has she?", "Answer": "3.5"},
        {"ID": "c-3", "Body": "Ann has 4 pens", "Question": "How many?", "Answer": 4},
    ]
    problems = load_rows(tmp_path, "svamp", *rows)
    assert [(p.id, p.question, p.ground_truth) for p in problems] == [
        ("c-1", "Ann has 3 pens. How many?", "3"),
        ("c-2", "If Ann has 3 pens, how many has she?", "3.5"),
        ("c-3", "Ann has 4 pens. How many?", "4"),
    ]


def test_math_needs_no_level_and_takes_all_boxes_that_are_the_answer(tmp_path: Path) -> None:
    rows = [
        {"problem": "1?", "solution": "They are $\\boxed{-2}$ and $\\boxed{1}$.", "idx": 0},
        {"problem": "2?", "solution": "?", "answer": [22.0]},
    ]
    problems = load_rows(tmp_path, "math", *rows)
    assert [(p.ground_truth, p.tier) for p in problems] == [("-2, 1", ""), ("22", "")]


def test_olympiadbench_has_lists_of_answers_and_a_context(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "context": None, "question": "Which?", "final_answer": ["$2n$"]},
        {"id": 2, "context": "Let $x^2=4$.", "question": "Which?", "final_answer": ["$2$", "$-2$"]},
    ]
    problems = load_rows(tmp_path, "olympiadbench", *rows)
    assert [(p.id, p.question, p.ground_truth) for p in problems] == [
        ("olympiadbench-1", "Which?", "$2n$"),
        ("olympiadbench-2", "Let $x^2=4$.\n\nWhich?", "2, -2"),
    ]


def test_verls_files_have_conversations_and_nested_truths(tmp_path: Path) -> None:
    row = {
        "prompt": [{"role": "user", "content": "1+1?"}],
        "reward_model": {"ground_truth": "2", "style": "rule"},
    }
    (problem,) = load_rows(tmp_path, "verl", row)
    assert (problem.question, problem.ground_truth, problem.kind) == ("1+1?", "2", "math")


def test_choices_of_aqua_and_mmlu_are_listed_and_their_answers_are_letters(tmp_path: Path) -> None:
    aqua = {"question": "Largest?", "options": ["A)3", "B) 9", "(C) 5"], "rationale": "9", "correct": "B"}
    (problem,) = load_rows(tmp_path, "aqua", aqua)
    assert problem.question == "Largest?\nA. 3\nB. 9\nC. 5"
    assert (problem.ground_truth, problem.metadata["options"]) == ("B", ["3", "9", "5"])
    mmlu = {"question": "Largest?", "subject": "sums", "choices": ["3", "9"], "answer": 1}
    (problem,) = load_rows(tmp_path, "mmlu", mmlu)
    assert (problem.question, problem.ground_truth, problem.domain) == ("Largest?\nA. 3\nB. 9", "B", "sums")
    with pytest.raises(DataError, match="an option's number from 0, not 2"):
        load_rows(tmp_path, "mmlu", {**mmlu, "answer": 2})


def test_humaneval_is_a_program_to_complete_with_one_test_for_each_assert(tmp_path: Path) -> None:
    row = {
        "task_id": "HumanEval/0",
        "prompt": 'def add(a, b):\n    """The sum."""\n',
        "entry_point": "add",
        "canonical_solution": "    return a + b\n",
        "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n    assert candidate(0, 0) == 0\n",
    }
    (problem,) = load_rows(tmp_path, "humaneval", row)
    assert (problem.id, problem.kind) == ("HumanEval/0", "code")
    assert "```python\ndef add(a, b):" in problem.question
    assert "return" not in problem.question
    assert [test["code"] for test in problem.tests] == ["assert add(1, 2) == 3", "assert add(0, 0) == 0"]
    assert problem.reference == row["prompt"] + row["canonical_solution"]
    with pytest.raises(DataError, match=r"a\.jsonl:1: its tests do more than assert: 'for i in"):
        load_rows(
            tmp_path, "humaneval", {**row, "test": "def check(f):\n    for i in []:\n        assert f(i)"}
        )


def test_leetcode_calls_a_method_of_a_solution(tmp_path: Path) -> None:
    row = {
        "task_id": "add",
        "difficulty": "Easy",
        "problem_description": "Add.",
        "starter_code": "class Solution:\n    def add(self, a, b):\n",
        "prompt": "import math",
        "completion": "class Solution:\n    def add(self, a, b):\n        return a + b",
        "entry_point": "Solution().add",
        "test": "def check(candidate):\n    assert candidate(a = 1, b = 2) == 3\n",
    }
    (problem,) = load_rows(tmp_path, "leetcode", row)
    assert problem.question.startswith("Add.\n\nStart from this code:\nclass Solution:")
    assert [test["code"] for test in problem.tests] == ["assert add(a=1, b=2) == 3"]
    assert problem.reference == "import math\n" + row["completion"]
    assert problem.tier == "Easy"
