import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from r1kit.data.mappings import PROBLEM_MAPPINGS, last_boxed, lettered_options
from r1kit.data.sources import ProblemSource, load_problems
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
