"""Data stages and evaluations with two ranks: the same planned and generations as with one."""

import json

import pytest

from r1kit.evaluate.graded import read_generations
from r1kit.evaluate.run import EvalConfig, evaluate_model
from r1kit.ranks import collectives
from r1kit.sampling.logged import plan_samples, stage_sampler
from r1kit.sampling.over_ranks import dismiss_helpers, help_sampling
from tests.data_stages import math_problem, stage_context
from tests.on_ranks import on_ranks
from tests.tiny_models import tiny_model

PROBLEMS = [math_problem(i, f"What is {i} + 1?", str(i + 1)) for i in range(9)]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("base"))


def as_first(work):
    """Do it on the first rank, while the others sample for it."""
    if not collectives.is_main():
        help_sampling()
        return
    work()
    dismiss_helpers()


def draw(folder, base):
    context = stage_context(folder, base, {})  # 8 rows at a time: a round is 64 planned on two ranks

    def work():
        with stage_sampler(
            context, "base", folder / "log.jsonl", max_new_tokens=10, temperature=1.0
        ) as sampler:
            planned = plan_samples(PROBLEMS, sampler.encode("zero"), range(8), label=["a"], seed=5)
            few = [rollout.completion.token_ids for rollout in sampler.sample(planned[:4])]
            rollouts = sampler.sample(planned)
        assert [rollout.completion.token_ids for rollout in rollouts[:4]] == few
        rows = [[r.problem.id, r.sample, r.completion.text, r.completion.token_ids] for r in rollouts]
        (folder / "rows.json").write_text(json.dumps(rows))

    as_first(work)


def evaluate(folder, base):
    config = EvalConfig(problems=["sums"], samples=2, max_new_tokens=10, num_bootstrap=100)
    sampling = {"style": "zero", "seed": 3, "dtype": "float32", "device": "cpu", "max_rows": 4}
    as_first(lambda: evaluate_model(str(base), {"sums": PROBLEMS}, config, work_dir=folder, **sampling))


def test_a_sampler_draws_the_same_with_two_ranks_and_logs_each_once(base, tmp_path):
    draw(tmp_path / "one", base)
    on_ranks(tmp_path / "ranks", draw, tmp_path / "two", base)
    one, two = (json.loads((tmp_path / name / "rows.json").read_text()) for name in ("one", "two"))
    assert one == two
    assert len(one) == 72
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("one", "two")]
    assert sorted(logs[0]) == sorted(logs[1])


def test_an_evaluation_with_two_ranks_has_the_same_generations(base, tmp_path):
    evaluate(tmp_path / "one", base)
    on_ranks(tmp_path / "ranks", evaluate, tmp_path / "two", base)
    assert read_generations(tmp_path / "two") == read_generations(tmp_path / "one")
