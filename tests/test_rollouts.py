import pytest

from r1kit.engines.base import SamplingParams
from r1kit.rollouts import sample_rollouts
from r1kit.seeds import derive_seed
from tests.grpo.scripted import ScriptedEngine, problems
from tests.tiny_models import tiny_tokenizer

PARAMS = SamplingParams(max_tokens=20)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return tiny_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def sample(tokenizer, chosen, **options):
    engine = ScriptedEngine(tokenizer, lambda prompt, seed, weights: str(seed % 100))
    defaults = {"group_size": 3, "params": PARAMS, "style": "zero", "seed": 5, "stage": "zero", "step": 2}
    return sample_rollouts(engine, tokenizer, chosen, **(defaults | options))


def test_groups_come_back_in_the_problems_order_although_they_finish_backwards(tokenizer):
    finished = []
    groups = sample(
        tokenizer, problems(3), first_group=10, on_group=lambda i, rows: finished.append((i, rows))
    )
    assert [[(r.problem.id, r.group, r.sample) for r in group] for group in groups] == [
        [(f"p{i}", 10 + i, s) for s in range(3)] for i in range(3)
    ]
    assert [i for i, _ in finished] == [2, 1, 0]
    assert [rows for _, rows in finished] == groups[::-1]


def test_a_rows_seed_depends_on_its_names_alone(tokenizer):
    all_of_them = sample(tokenizer, problems(3), wave=1)
    alone = sample(tokenizer, problems(3)[1:2], wave=1)
    assert [r.seed for r in alone[0]] == [r.seed for r in all_of_them[1]]
    assert all_of_them[1][2].seed == derive_seed(5, "zero", 2, 1, "p1", 2)
    assert all_of_them[1][2].completion.text == str(all_of_them[1][2].seed % 100)


def test_a_problem_that_occurs_twice_is_sampled_on_not_copied(tokenizer):
    (problem,) = problems(1)
    first, second = sample(tokenizer, [problem, problem])
    assert [r.sample for r in second] == [3, 4, 5]
    assert len({r.seed for r in first + second}) == 6
