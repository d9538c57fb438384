import sys
from pathlib import Path

import pytest

from r1kit.data.gym import SPLITS, make_gym_problems
from r1kit.data.records import problem_from_json, problem_to_json
from r1kit.data.sources import ProblemSource, load_problems
from r1kit.errors import RecipeError
from r1kit.rewards.accuracy import AccuracyReward, check_answers, verify_problems
from r1kit.text.template import format_zero
from r1kit.verify.gym_worker import is_harmless
from tests.making import make_rollout


def changed(truth: str) -> str:
    """The truth with its first digit, or else its first letter, another one."""
    for kind, other in (
        (str.isdigit, lambda c: str((int(c) + 1) % 10)),
        (str.isalpha, lambda c: chr(ord(c) ^ 1)),
    ):
        for i, character in enumerate(truth):
            if kind(character):
                return truth[:i] + other(character) + truth[i + 1 :]
    return truth + "x"


# How a truth is corrupted.
DATASETS = {
    "countdown": changed,
    "leg_counting": changed,
    "chain_sum": changed,
    "gcd": changed,
    "spell_backward": changed,
    "basic_arithmetic": changed,
    "simple_equations": changed,
}


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_the_truth_scores_as_right_under_its_own_scorer_and_a_corrupted_one_as_wrong(name: str) -> None:
    pytest.importorskip("reasoning_gym")
    problems = make_gym_problems(name, "train", 3, seed=0, options={})
    assert verify_problems(problems) == [None] * 3
    truths = [problem.ground_truth or "" for problem in problems]
    right = [make_rollout(p, format_zero("a", truth)) for p, truth in zip(problems, truths, strict=True)]
    wrong = [
        make_rollout(p, format_zero("a", DATASETS[name](truth)))
        for p, truth in zip(problems, truths, strict=True)
    ]
    boxed = [
        make_rollout(p, format_zero("a", f"So the answer is \\boxed{{{truth}}}."))
        for p, truth in zip(problems, truths, strict=True)
    ]
    assert AccuracyReward("zero")([*right, *wrong, *boxed]) == [1.0] * 3 + [0.0] * 3 + [1.0] * 3


def test_splits_share_no_question_whatever_the_seeds() -> None:
    pytest.importorskip("reasoning_gym")
    # a data set with few different questions, so that seeds alone would not keep them apart
    options = {"min_numbers": 2, "max_numbers": 2, "min_value": 1, "max_value": 12}
    questions = {
        (split, seed): {p.question for p in make_gym_problems("gcd", split, 10, seed=seed, options=options)}
        for split in SPLITS
        for seed in (0, 1)
    }
    assert all(len(found) == 10 for found in questions.values())
    for (split, _), found in questions.items():
        for (other, _), others in questions.items():
            assert split == other or not found & others
    assert questions["train", 0] == {
        p.question for p in make_gym_problems("gcd", "train", 10, seed=0, options=options)
    }


def test_a_recipe_names_a_data_set_and_its_problems_survive_the_log(tmp_path: Path) -> None:
    pytest.importorskip("reasoning_gym")
    source = ProblemSource(
        source="reasoning_gym:chain_sum", num_problems=2, split="test", options={"min_terms": 2}
    )
    problems = load_problems(source, seed=0, base_dir=tmp_path)
    again = [problem_from_json(problem_to_json(problem)) for problem in problems]
    assert again == problems
    assert check_answers([(p, p.ground_truth or "") for p in again]) == [True, True]


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"source": "reasoning_gym:countdwn"}, "countdwn"),
        (
            {"source": "reasoning_gym:gcd", "split": "dev"},
            "no split 'dev'; there are train, validation, test",
        ),
        ({"source": "reasoning_gym:gcd", "options": {"minn": 2}}, "minn"),
        (
            {
                "source": "reasoning_gym:gcd",
                "options": {"max_numbers": 2, "max_value": 2},
                "num_problems": 50,
            },
            "only . different ones",
        ),
    ],
)
def test_what_a_data_set_has_not_is_an_error(fields: dict, complaint: str, tmp_path: Path) -> None:
    pytest.importorskip("reasoning_gym")
    with pytest.raises(RecipeError, match=complaint):
        load_problems(ProblemSource(**{"num_problems": 2, **fields}), seed=0, base_dir=tmp_path)


def test_the_fields_of_a_source_fit_it() -> None:
    with pytest.raises(ValueError, match="set `num_problems`"):
        ProblemSource(source="reasoning_gym:gcd")
    with pytest.raises(ValueError, match="`options` is for reasoning_gym"):
        ProblemSource(source="gsm8k", options={"min_terms": 2})


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(RecipeError, match="pip install 'r1kit\\[gym\\]'"):
        make_gym_problems("gcd", "train", 1, seed=0, options={})


@pytest.mark.parametrize(
    ("dataset", "answer", "harmless"),
    [
        ("countdown", "6*(98 - 54) - 34 - 66", True),
        ("countdown", "print(7)", False),
        ("countdown", "__import__", False),
        ("polynomial_multiplication", "3*x**2 - 6*x + 1", True),
        ("polynomial_multiplication", "print(x)", False),
        ("polynomial_multiplication", "x.__class__", False),
        ("simple_integration", "sin(x) + exp(2*x)/2 + C", True),
        ("simple_integration", "open(x)", False),
        ("spiral_matrix", "[1, 2, 3]", True),
        ("spiral_matrix", "[print(1)]", False),
        ("n_queens", "().__class__", False),
        ("spell_backward", "print(1)", True),  # compared as text
    ],
)
def test_what_a_scorer_would_evaluate_can_call_nothing(dataset: str, answer: str, harmless: bool) -> None:
    assert is_harmless(dataset, answer) is harmless
