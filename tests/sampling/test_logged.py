from pathlib import Path

import pytest

from r1kit.sampling.logged import LoggedSampler, plan_samples, stage_sampler
from tests.data_stages import Script, math_problem, stage_context
from tests.tiny_models import tiny_model

PROBLEMS = [math_problem(i, f"What is {i} + 0?", str(i)) for i in range(4)]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def sampler(context, folder: Path, **more) -> LoggedSampler:
    settings = {"max_new_tokens": 12, "temperature": 1.0} | more
    return stage_sampler(context, "base", folder / "samples.jsonl", **settings)


def test_a_real_model_is_drawn_from_and_read_back_to_the_bit(base, tmp_path) -> None:
    context = stage_context(tmp_path, base, {})
    with sampler(context, tmp_path) as first:
        planned = plan_samples(PROBLEMS, first.encode("chat"), range(3), label=["x"], seed=5)
        rollouts = first.sample(planned)
    assert [(r.problem.id, r.sample) for r in rollouts] == [(f"p{i}", s) for i in range(4) for s in range(3)]
    assert len({r.completion.text for r in rollouts}) > 6
    with sampler(context, tmp_path) as second:
        assert second.sample(planned) == rollouts
    # other planned, in another order, beside each other, are the same ones
    (tmp_path / "other").mkdir()
    with sampler(context, tmp_path / "other") as third:
        again = third.sample(planned[::-2])
    assert again == rollouts[::-2]


def test_what_the_log_holds_needs_no_model(base, tmp_path, monkeypatch) -> None:
    script = Script(monkeypatch, lambda prompt, number: f"text {number}")
    context = stage_context(tmp_path, base, {})
    for _ in range(2):
        with sampler(context, tmp_path) as source:
            planned = plan_samples(PROBLEMS, source.encode("zero"), range(2), label=["x"], seed=5)
            source.sample(planned[:4])
    assert script.num_sampled == 4
    with sampler(context, tmp_path) as source:
        source.sample(planned)
    assert script.num_sampled == 8


def test_a_log_of_another_seed_is_not_taken(base, tmp_path, monkeypatch) -> None:
    script = Script(monkeypatch, lambda prompt, number: "text")
    context = stage_context(tmp_path, base, {})
    for seed in (1, 2):
        with sampler(context, tmp_path) as source:
            source.sample(plan_samples(PROBLEMS[:1], source.encode("zero"), range(2), label=["x"], seed=seed))
    assert script.num_sampled == 4


def test_an_engine_that_breaks_loses_nothing_that_was_finished(base, tmp_path, monkeypatch) -> None:
    script = Script(monkeypatch, lambda prompt, number: "text")
    script.stop_after = 5
    context = stage_context(tmp_path, base, {})
    with sampler(context, tmp_path) as source:
        planned = plan_samples(PROBLEMS, source.encode("zero"), range(2), label=["x"], seed=1)
        with pytest.raises(KeyboardInterrupt):
            source.sample(planned)
    assert len((tmp_path / "samples.jsonl").read_text().splitlines()) == 5


def test_seeds_and_names_depend_on_the_draw_alone() -> None:
    def encode(problem) -> tuple[int, ...]:
        return (1,)

    few = plan_samples(PROBLEMS[2:3], encode, [7], label=["x"], seed=5)
    many = plan_samples(PROBLEMS, encode, range(9), label=["x"], seed=5)
    assert few[0] in many
    assert len({draw.name for draw in many}) == len({draw.seed for draw in many}) == 36
    assert plan_samples(PROBLEMS, encode, range(9), label=["y"], seed=5)[0].seed != many[0].seed
