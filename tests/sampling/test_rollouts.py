import pytest

from r1kit.sampling.engine import SamplingParams
from r1kit.sampling.rollouts import iter_groups
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
    return list(iter_groups(engine, tokenizer, chosen, **(defaults | options)))


def test_groups_come_as_they_finish_with_their_samples_in_order(tokenizer):
    groups = sample(tokenizer, problems(3), first_group=10)  # this engine finishes backwards
    assert [(i, [(r.problem.id, r.group, r.sample) for r in rows]) for i, rows in groups] == [
        (i, [(f"p{i}", 10 + i, s) for s in range(3)]) for i in (2, 1, 0)
    ]


def test_of_those_asked_for_each_keeps_its_place(tokenizer):
    everything = dict(sample(tokenizer, problems(3)))
    assert dict(sample(tokenizer, problems(3), only=[0, 2])) == {i: everything[i] for i in (0, 2)}


def test_a_rows_seed_depends_on_its_names_alone(tokenizer):
    all_of_them = dict(sample(tokenizer, problems(3), wave=1))
    alone = dict(sample(tokenizer, problems(3)[1:2], wave=1))
    assert [r.seed for r in alone[0]] == [r.seed for r in all_of_them[1]]
    assert all_of_them[1][2].seed == derive_seed(5, "zero", 2, 1, "p1", 2)
    assert all_of_them[1][2].completion.text == str(all_of_them[1][2].seed % 100)


def test_a_problem_that_occurs_twice_is_sampled_on_not_copied(tokenizer):
    (problem,) = problems(1)
    (_, first), (_, second) = sorted(sample(tokenizer, [problem, problem]))
    assert [r.sample for r in second] == [3, 4, 5]
    assert len({r.seed for r in first + second}) == 6
