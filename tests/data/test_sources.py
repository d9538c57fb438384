import json
import re
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from pydantic import ValidationError

from r1kit.data.questions import question_key
from r1kit.data.records import problem_to_json
from r1kit.data.sources import ProblemSource, load_problems
from r1kit.errors import DataError, RecipeError
from r1kit.types import Problem


def write(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def load(source: ProblemSource, folder: Path, seed: int = 0, **more) -> list[Problem]:
    return load_problems(source, seed=seed, base_dir=folder, **more)


def test_another_schema_is_read_through_the_column_mapping(tmp_path: Path) -> None:
    write(tmp_path / "own.jsonl", {"prompt": " What is 2+2? ", "solution": 4, "lang": "en", "level": "easy"})
    source = ProblemSource(
        source="own.jsonl",
        columns={"question": "prompt", "answer": "solution", "language": "lang", "tier": "level"},
        domain="sums",
    )
    (problem,) = load(source, tmp_path)
    assert problem.messages == ({"role": "user", "content": "What is 2+2?"},)
    assert (problem.ground_truth, problem.kind, problem.language) == ("4", "math", "en")
    assert (problem.tier, problem.domain, problem.source) == ("easy", "sums", "own.jsonl")


def test_columns_of_the_fields_own_names_need_no_mapping(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"id": 7, "question": "1+1?", "answer": "2"})
    (problem,) = load(ProblemSource(source="a.jsonl", wants_reasoning=False), tmp_path)
    assert (problem.id, problem.ground_truth, problem.wants_reasoning) == ("7", "2", False)


def test_r1kits_own_problem_records_need_no_mapping(tmp_path: Path) -> None:
    problem = Problem(
        id="x",
        kind="logic",
        messages=({"role": "user", "content": "?"},),
        ground_truth="7 12",
        domain="d",
        source="s",
        metadata={"verifier": "multiset"},
    )
    write(tmp_path / "a.jsonl", problem_to_json(problem))
    assert load(ProblemSource(source="a.jsonl"), tmp_path) == [problem]


def test_parquet_and_a_folder_of_files_give_what_jsonl_gives(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows = [{"question": f"{i}+1?", "answer": str(i + 1)} for i in range(3)]
    write(tmp_path / "a.jsonl", *rows)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "train.jsonl", *rows)
    expected = [(p.id, p.ground_truth) for p in load(ProblemSource(source="a.jsonl"), tmp_path)]
    for name in ("a.parquet", "folder"):
        assert [(p.id, p.ground_truth) for p in load(ProblemSource(source=name), tmp_path)] == expected


def test_a_missing_column_suggests_the_near_miss(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"Question": "1+1?", "answer": "2"})
    with pytest.raises(DataError, match=r"a\.jsonl:1: no column 'question'; did you mean 'Question'\?"):
        load(ProblemSource(source="a.jsonl"), tmp_path)
    with pytest.raises(DataError, match=r"no column 'anwser'; did you mean 'answer'\?"):
        load(ProblemSource(source="a.jsonl", columns={"question": "Question", "answer": "anwser"}), tmp_path)


def test_an_unknown_field_in_columns_suggests_the_near_miss() -> None:
    with pytest.raises(ValidationError, match="can't map 'anser'; did you mean 'answer'"):
        ProblemSource(source="a.jsonl", columns={"anser": "x"})


def test_options_are_shown_and_the_answer_becomes_a_letter(tmp_path: Path) -> None:
    rows = [
        {"question": "Largest?", "options": ["3", "9"], "answer": "9"},
        {"question": "Smallest?", "options": ["3", "9"], "answer": 0},
        {"question": "Odd one?", "options": {"label": ["A", "B"], "text": ["x", "y"]}, "answer": "B"},
    ]
    write(tmp_path / "a.jsonl", *rows)
    problems = load(ProblemSource(source="a.jsonl", kind="choice"), tmp_path)
    assert [p.ground_truth for p in problems] == ["B", "A", "B"]
    assert problems[0].question == "Largest?\nA. 3\nB. 9"
    assert problems[2].metadata["options"] == ["x", "y"]


def test_an_answer_that_is_no_option_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"question": "Largest?", "options": ["3", "9"], "answer": "C"})
    with pytest.raises(DataError, match=r"a\.jsonl:1: the answer 'C' is none of the options A-B"):
        load(ProblemSource(source="a.jsonl", kind="choice"), tmp_path)


def test_a_judged_problem_takes_its_answer_as_the_reference(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"question": "Why?", "answer": "Because."})
    (problem,) = load(ProblemSource(source="a.jsonl", kind="judged"), tmp_path)
    assert (problem.reference, problem.ground_truth) == ("Because.", None)


def test_unverifiable_problems_are_one_line_a_kind_with_count_example_places_and_fix(tmp_path: Path) -> None:
    rows = [{"question": f"{i}?", "answer": "x" if i % 2 else "y"} for i in range(1, 9)]
    path = write(tmp_path / "a.jsonl", *rows)
    faults = {"x": "not a number: 'x'", "y": "why?"}
    with pytest.raises(DataError) as caught:
        load(ProblemSource(source="a.jsonl"), tmp_path, check=lambda problem: faults[problem.ground_truth])
    fix = 'fix such rows, or leave them out with `on_bad = "skip"`'
    first, second = str(caught.value).splitlines()
    assert re.fullmatch(
        rf"4 rows: {path}:1: not a number: 'x' \(id '\w{{16}}'\); the same at {path}:3, {path}:5, "
        rf"{path}:7; {fix}",
        first,
    )
    assert second.startswith(f"4 rows: {path}:2: why?")


def test_bad_problems_are_skipped_with_their_count_where_the_source_says_so(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", *({"question": f"{i}?", "answer": str(i)} for i in range(4)))
    notes: list[str] = []
    problems = load(
        ProblemSource(source="a.jsonl", on_bad="skip"),
        tmp_path,
        check=lambda problem: "odd" if int(problem.ground_truth) % 2 else None,
        note=notes.append,
    )
    assert [p.ground_truth for p in problems] == ["0", "2"]
    assert "2 problems kept, 2 skipped" in notes[0]
    assert "a.jsonl:2: odd" in notes[0]


def test_a_source_without_any_usable_problem_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"question": "1?", "answer": "1"})
    with pytest.raises(DataError, match="no usable problem"):
        load(ProblemSource(source="a.jsonl", on_bad="skip"), tmp_path, check=lambda problem: "no")


def test_a_number_of_problems_is_drawn_by_the_seed_and_kept_in_the_files_order(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", *({"question": f"{i}?", "answer": str(i)} for i in range(50)))
    source = ProblemSource(source="a.jsonl", num_problems=10)
    first = [int(p.ground_truth) for p in load(source, tmp_path, seed=1)]
    assert first == [int(p.ground_truth) for p in load(source, tmp_path, seed=1)] == sorted(first)
    assert first != [int(p.ground_truth) for p in load(source, tmp_path, seed=2)]
    fixed = ProblemSource(source="a.jsonl", num_problems=10, seed=1)
    assert first == [int(p.ground_truth) for p in load(fixed, tmp_path, seed=2)]


def test_a_skipped_problem_is_replaced_by_another(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", *({"question": f"{i}?", "answer": str(i)} for i in range(20)))
    source = ProblemSource(source="a.jsonl", num_problems=10, on_bad="skip")
    problems = load(source, tmp_path, check=lambda p: "odd" if int(p.ground_truth) % 2 else None)
    assert [int(p.ground_truth) for p in problems] == list(range(0, 20, 2))


def test_more_problems_than_there_are_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"question": "1?", "answer": "1"})
    with pytest.raises(DataError, match="2 problems asked for, 1 usable"):
        load(ProblemSource(source="a.jsonl", num_problems=2), tmp_path)


def test_the_same_problem_twice_names_both_lines(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", *[{"question": "1?", "answer": "1"}] * 2)
    with pytest.raises(DataError, match=r"a\.jsonl:2: the same problem .* is at .*a\.jsonl:1"):
        load(ProblemSource(source="a.jsonl"), tmp_path)


def test_code_problems_need_tests_that_can_be_read(tmp_path: Path) -> None:
    good = {"question": "Add.", "tests": [{"type": "stdin", "input": "1 2", "output": "3"}]}
    (problem,) = load(ProblemSource(source=str(write(tmp_path / "a.jsonl", good)), kind="code"), tmp_path)
    assert problem.tests == tuple(good["tests"])
    assert problem.metadata == {}
    source = ProblemSource(source="a.jsonl", kind="code", limits={"cpu_seconds": 1.5, "processes": 3})
    limits = load(source, tmp_path)[0].metadata["limits"]
    assert (limits["cpu_seconds"], limits["processes"], limits["memory_mb"]) == (1.5, 3, 1024)
    for tests, message in [
        ([], "needs tests"),
        ([{"type": "stdin", "input": "1"}], "a stdin test needs output"),
        ([{"type": "assert", "code": "assert ("}], "a test is not Python"),
        ([{"type": "call", "function": "a b", "arguments": [], "output": 1}], "names a function"),
        ("[1", "not valid JSON"),
    ]:
        write(tmp_path / "a.jsonl", {"question": "Add.", "tests": tests})
        with pytest.raises(DataError, match=message):
            load(ProblemSource(source="a.jsonl", kind="code"), tmp_path)


def test_a_file_type_that_is_not_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_text("question,answer\n")
    with pytest.raises(
        DataError, match=r"can't read \.xlsx files; \.json, \.jsonl, \.csv, \.tsv .* are read"
    ):
        load(ProblemSource(source="a.xlsx"), tmp_path)


def test_fields_for_tinyworld_are_refused_elsewhere_and_its_number_is_needed() -> None:
    with pytest.raises(ValidationError, match="`tiers` is for tinyworld"):
        ProblemSource(source="a.jsonl", tiers=["hard"])
    with pytest.raises(ValidationError, match="set `num_problems`"):
        ProblemSource(source="tinyworld")


@pytest.mark.parametrize(
    ("source", "fields"),
    [
        ("tinyworld", {"limits": {"cpu_seconds": 2}}),
        ("tinyworld", {"check_reference": False}),
        ("tinyworld", {"percent": "either"}),
        ("tinyworld", {"categories": ["fact"]}),
        ("tinyworld-general", {"tiers": ["hard"]}),
        ("tinyworld-general", {"columns": {"question": "q"}}),
        ("reasoning_gym:countdown", {"on_bad": "skip"}),
        ("reasoning_gym:countdown", {"limits": {"cpu_seconds": 2}}),
    ],
)
def test_what_a_source_that_makes_its_own_problems_would_ignore_is_refused(
    source: str, fields: dict[str, object]
) -> None:
    [name] = fields
    with pytest.raises(ValidationError, match=f"`{name}` has no meaning for {source}.*takes .*num_problems"):
        ProblemSource(source=source, num_problems=3, **fields)


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("limits", {"cpu_seconds": 2}, "code"),
        ("check_reference", False, "code"),
        ("percent", "either", "math"),
    ],
)
def test_settings_of_a_kind_that_no_problem_is_of_are_refused(
    tmp_path: Path, field: str, value: object, kind: str
) -> None:
    write(tmp_path / "a.jsonl", {"question": "Which?", "answer": "A", "options": ["1", "2"]})
    with pytest.raises(DataError, match=rf"`{field}` is for problems of kind {kind}, and .* \(only choice\)"):
        load(ProblemSource(source="a.jsonl", kind="choice", **{field: value}), tmp_path)


def test_general_prompts_of_tinyworld_are_in_the_languages_that_are_asked_for(tmp_path: Path) -> None:
    options = {"source": "tinyworld-general", "num_problems": 6, "categories": ["greeting", "harmful"]}
    for languages in (["en"], ["zh"]):
        problems = load(ProblemSource(**options, languages=languages), tmp_path)
        assert {problem.language for problem in problems} == set(languages)


def test_tinyworld_makes_problems_and_says_what_it_does_not_have(tmp_path: Path) -> None:
    source = ProblemSource(source="tinyworld", num_problems=6, tiers=["ordinary"], languages=["en"])
    problems = load(source, tmp_path, seed=3)
    assert len({p.id for p in problems}) == 6
    assert {p.language for p in problems} == {"en"}
    with pytest.raises(RecipeError, match="no tier 'harder'"):
        load(ProblemSource(source="tinyworld", num_problems=6, tiers=["harder"]), tmp_path)


def test_questions_of_other_sets_are_left_out_before_problems_are_chosen(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", *({"question": f"{i}+1?", "answer": str(i + 1)} for i in range(6)))
    every = load(ProblemSource(source="a.jsonl"), tmp_path)
    keys = {question_key(problem) for problem in every[:4]}
    kept = load(ProblemSource(source="a.jsonl", num_problems=2), tmp_path, without=keys)
    assert kept == every[4:]
    with pytest.raises(DataError, match="3 problems asked for, 2 usable"):
        load(ProblemSource(source="a.jsonl", num_problems=3), tmp_path, without=keys)
    keys |= {question_key(problem) for problem in every}
    with pytest.raises(DataError, match="all of its questions are in test, which `without` leaves out"):
        load(ProblemSource(source="a.jsonl", without=["test"]), tmp_path, without=keys)


def test_the_same_question_in_other_spacing_is_left_out_too(tmp_path: Path) -> None:
    write(
        tmp_path / "a.jsonl", {"question": "What  is\n1+1?", "answer": "2"}, {"question": "2+2?", "answer": 4}
    )
    write(tmp_path / "b.jsonl", {"question": "what is 1+1?", "answer": "2"})
    keys = {question_key(problem) for problem in load(ProblemSource(source="b.jsonl"), tmp_path)}
    [kept] = load(ProblemSource(source="a.jsonl"), tmp_path, without=keys)
    assert kept.question == "2+2?"
