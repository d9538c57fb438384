"""Questions of a run: each once, with what its verifier needs, from logs as they may be found."""

import json
from pathlib import Path
from typing import Any

import pytest

from r1kit.ui.chat.questions import find_question, questions_of, shown
from r1kit.ui.folders import Run


def rollout(text: str, truth: str, **more: Any) -> str:
    messages = [{"role": "user", "content": text}]
    problem = {"id": text, "kind": "math", "messages": messages, "ground_truth": truth, "domain": "sums"}
    return json.dumps({"problem": problem | more, "step": 1}) + "\n"


def generation(text: str, truth: str | None, **more: Any) -> str:
    row = {"problem_id": text, "kind": "math", "question": text, "ground_truth": truth, "domain": "sums"}
    return json.dumps(row | more) + "\n"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "zero" / "rollouts").mkdir(parents=True)
    (tmp_path / "zero" / "manifest.json").write_text('{"kind": "grpo"}')
    (tmp_path / "eval" / "zero").mkdir(parents=True)
    (tmp_path / "eval" / "zero" / "manifest.json").write_text('{"kind": "eval"}')
    return Run("out", tmp_path)


def test_each_question_comes_once_with_its_answer_and_place(run: Run) -> None:
    (run.folder / "zero" / "rollouts" / "step-00001.jsonl").write_text(
        rollout("What is 2 + 3?", "5") * 4 + rollout("What is 1 + 1?", "2") * 4
    )
    (run.folder / "eval" / "zero" / "generations.jsonl").write_text(
        generation("What is 2 + 3?", "5") + generation("What is 4 + 4?", "8")
    )
    found = questions_of(run)
    assert [(one.text, one.truth, one.where) for one in found] == [
        ("What is 2 + 3?", "5", "rollouts of zero"),
        ("What is 1 + 1?", "2", "rollouts of zero"),
        ("What is 4 + 4?", "8", "evaluation of zero"),
    ]
    one = find_question(run, "  What is\n2 + 3? ")
    assert one is not None
    assert one.truth == "5"
    assert find_question(run, "What is 9 + 9?") is None


def test_only_what_a_verifier_can_check_has_a_problem(run: Run) -> None:
    (run.folder / "eval" / "zero" / "generations.jsonl").write_text(
        generation("What is 4 + 4?", "8")
        + generation("Which? A. 1 B. 2", "B", kind="choice")  # without its options
        + generation("Hello", None, kind="general")
    )
    assert [(one.truth, one.problem is not None) for one in questions_of(run)] == [
        ("8", True),
        ("B", False),
        (None, False),
    ]


def test_a_problem_with_other_turns_is_not_asked_by_its_question_alone(run: Run) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2 + 3?"}]
    (run.folder / "zero" / "rollouts" / "step-00001.jsonl").write_text(rollout("x", "5", messages=turns))
    assert questions_of(run) == ()


def test_damaged_and_unfinished_lines_are_left_out(run: Run) -> None:
    (run.folder / "zero" / "rollouts" / "step-00001.jsonl").write_bytes(
        b'{"problem": 3}\n[1]\nnot json\n\xff\xfe\n'
        + b'{"problem": {"id": "a", "kind": "no such kind", "messages": []}}\n'
        + b"[" * 100_000
        + b"\n"
        + rollout("What is 2 + 3?", "5").encode()
        + rollout("What is 1 + 1?", "2").encode()[:-20]
    )
    assert [one.text for one in questions_of(run)] == ["What is 2 + 3?"]


def test_a_log_that_grows_is_read_again(run: Run) -> None:
    log = run.folder / "zero" / "rollouts" / "step-00001.jsonl"
    log.write_text(rollout("What is 2 + 3?", "5"))
    assert len(questions_of(run)) == 1
    log.write_text(rollout("What is 2 + 3?", "5") + rollout("What is 1 + 1?", "2"))
    assert len(questions_of(run)) == 2


def test_some_of_every_domain_are_shown(run: Run) -> None:
    rows = [rollout(f"{domain} {i}", "1", domain=domain) for domain in ("a", "b", "c") for i in range(60)]
    (run.folder / "zero" / "rollouts" / "step-00001.jsonl").write_text("".join(rows))
    picked = shown(questions_of(run))
    assert [sum(one.domain == domain for one in picked) for domain in ("a", "b", "c")] == [16, 16, 16]
