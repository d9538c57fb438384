from r1kit.rewards.rules import FormatReward, RandomReward
from r1kit.text.template import format_chat, format_zero
from tests.making import make_problem, make_rollout

PROBLEM = make_problem()


def test_format_is_1_for_the_asked_shape_alone() -> None:
    texts = [format_zero("a", "51"), format_zero("a", "51") + " more", format_chat("a", "51"), "51"]
    rollouts = [make_rollout(PROBLEM, text) for text in texts]
    assert FormatReward("zero")(rollouts) == [1.0, 0.0, 0.0, 0.0]
    assert FormatReward("chat")(rollouts) == [0.0, 0.0, 1.0, 0.0]


def test_a_completion_that_ran_out_of_tokens_has_no_format() -> None:
    rollout = make_rollout(PROBLEM, format_zero("a", "51"), finish_reason="length")
    assert FormatReward("zero")([rollout]) == [0.0]


def test_a_bare_answer_is_well_formed_only_where_no_reasoning_is_wanted() -> None:
    simple = make_problem("general", wants_reasoning=False)
    assert FormatReward("chat")([make_rollout(simple, "Hello!"), make_rollout(PROBLEM, "51")]) == [1.0, 0.0]


def test_random_is_a_fair_coin_that_depends_on_the_rollouts_seed_alone() -> None:
    rollouts = [make_rollout(PROBLEM, "x", seed=seed) for seed in range(2000)]
    draws = RandomReward(3)(rollouts)
    assert set(draws) == {0.0, 1.0}
    # the standard error of the mean of 2,000 fair draws is 0.011
    assert abs(sum(d or 0.0 for d in draws) / 2000 - 0.5) < 0.045
    assert RandomReward(3)(rollouts[::-1]) == draws[::-1]
    assert RandomReward(4)(rollouts) != draws
    assert RandomReward(3)([make_rollout(PROBLEM, "other", seed=5)]) == [draws[5]]
