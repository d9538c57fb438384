import pytest
from pydantic import ValidationError

from r1kit.grpo import GrpoConfig

LEAST = {
    "model": "base",
    "prompt_style": "zero",
    "problems": {"reasoning": 1.0},
    "rewards": {"accuracy": 1.0},
    "steps": 10,
}


def config(**fields) -> GrpoConfig:
    return GrpoConfig.model_validate(LEAST | fields)


def test_defaults_are_the_papers():
    paper = config(steps=650)
    assert paper.num_updates == 10_400
    assert paper.problems_per_step * paper.group_size == 8_192
    assert (paper.clip_eps, paper.clip_high, paper.kl_coef) == (10.0, 10.0, 0.001)
    assert config(steps=2, mini_batches=3, inner_epochs=4).num_updates == 24
    assert (paper.inner_epochs, paper.importance_correction) == (1, "none")
    assert (paper.loss, paper.kl_estimator) == ("grpo", "k3")
    assert (paper.reference_refresh_every, paper.optimizer.learning_rate) == (400, 3e-6)


def test_dropout_of_an_adapter_is_refused():
    assert config(lora={"rank": 4}).lora.alpha == 32
    with pytest.raises(ValidationError, match=r"dropout = 0\.1 would turn the ratio"):
        config(lora={"dropout": 0.1})
    with pytest.raises(ValidationError, match="Extra inputs"):
        config(lora={"r": 4})


def test_schedules_replace_what_is_in_force_from_their_step_on():
    scheduled = config(
        mixture=[{"from_step": 5, "shares": {"reasoning": 1, "general": 3}}],
        reward_schedule=[{"from_step": 5, "weights": {"accuracy": 1, "helpful": 0.5}}],
        max_new_tokens=[{"from_step": 1, "value": 100}, {"from_step": 7, "value": 200}],
    )
    assert [scheduled.shares_at(s) for s in (4, 5)] == [{"reasoning": 1}, {"reasoning": 1, "general": 3}]
    assert [scheduled.weights_at(s) for s in (4, 5)] == [{"accuracy": 1}, {"accuracy": 1, "helpful": 0.5}]
    assert [scheduled.max_new_tokens_at(s) for s in (1, 6, 7)] == [100, 100, 200]
    assert (scheduled.longest_completion, config(max_new_tokens=7).longest_completion) == (200, 7)
    heated = config(temperature=[{"from_step": 0, "value": 1}, {"from_step": 7, "value": 0.7}])
    assert [heated.temperature_at(s) for s in (1, 6, 7)] == [1.0, 1.0, 0.7]
    assert config(temperature=1).temperature_at(3) == 1.0
    assert scheduled.problem_sets() == ["general", "reasoning"]
    assert scheduled.reward_names() == ["accuracy", "helpful"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"group_size": 1}, "a group compares samples of one problem, so it needs at least 2"),
        ({"temperature": 0}, "Input should be greater than 0"),
        ({"problems": {"a": 0.0}}, "the share of 'a' is 0.0; shares are positive"),
        ({"problems": {}}, "name at least one problem set"),
        ({"rewards": {}}, "rewards\n"),
        (
            {"max_new_tokens": [{"from_step": 2, "value": 9}]},
            "the first point is at step 2; the first from_step must",
        ),
        (
            {"temperature": [{"from_step": 2, "value": 0.7}]},
            "temperature: the first point is at step 2; the first from_step must",
        ),
        (
            {"mixture": [{"from_step": 9, "shares": {"a": 1}}, {"from_step": 9, "shares": {"a": 1}}]},
            "mixture: from_step 9 comes after 9; sort the points",
        ),
        ({"mini_batches": 65, "problems_per_step": 4}, "mini_batches = 65, but a step has only 64 rows"),
        ({"clip_epsilon": 0.2}, "Extra inputs are not permitted"),
        ({"rewards": {"accuracy": 1, "overlong": 1}}, "the reward 'overlong' needs its lengths"),
        (
            {"reward_options": {"cosine": {"max_length": 9}}},
            "reward_options.cosine is set, but the reward 'cosine' has no weight",
        ),
    ],
)
def test_a_config_that_can_not_be_run_is_refused(fields, message):
    with pytest.raises(ValidationError) as error:
        config(**fields)
    assert message in str(error.value)
