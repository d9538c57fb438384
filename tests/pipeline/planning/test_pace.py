"""What is made of measured times: by hand, with clocks that nobody reads."""

import pytest

from r1kit.grpo import GrpoConfig
from r1kit.pipeline.planning.measure import MeasuredPace, update_key
from r1kit.pipeline.planning.sampling_pace import SamplingPace, _lengths, _solve, mean_length
from r1kit.pipeline.planning.update_pace import UpdatePace, line_through
from r1kit.pipeline.planning.work import SYNC_TOKENS, Grading, Reading, Sampling, Start, Sync, Updates

CONFIG = GrpoConfig(
    model="base", prompt_style="zero", problems={"sums": 1.0}, rewards={"accuracy": 1.0}, steps=1
)


def test_two_waves_give_the_cost_of_a_step_and_of_a_row() -> None:
    # 10 ms a step and 1 ms a row: 100 steps of 2,000 rows in all, 50 steps of 100
    assert _solve((1.0 + 2.0, 100, 2000), (0.5 + 0.1, 50, 100)) == pytest.approx((0.01, 0.001))
    # times that no positive numbers explain: all of it is one of the two
    assert _solve((3.0, 100, 2000), (0.01, 50, 100)) == pytest.approx((0.0, 3.0 / 2000))
    assert _solve((1.0, 100, 2000), (1.0, 50, 100)) == pytest.approx((0.01, 0.0))
    assert _solve((1.0, 10, 10), (2.0, 10, 10)) == pytest.approx((0.1, 0.0))


def test_two_updates_give_the_cost_of_an_update_and_of_a_token() -> None:
    assert line_through((0.3, 100), (1.2, 1000)) == pytest.approx((0.2, 0.001))
    assert line_through((0.01, 100), (1.0, 1000)) == pytest.approx((0.0, 0.001))  # nothing below 0
    assert line_through((2.0, 100), (1.0, 1000)) == pytest.approx((0.0, 0.001))


def test_sampling_is_steps_rows_and_prompts_of_one_rank() -> None:
    pace = SamplingPace(step_seconds=0.01, row_seconds=0.001, prompt_seconds=0.0001)
    piece = Sampling(40, 4, prompt_tokens=100, tokens=10, limit=30, times=2)
    # a rank samples 20, 5 at a time: 3 fills of 10 steps and the longest, 10 x (ln 20 + 0.577) > 30
    steps = 3 * 10 + 30
    one = steps * 0.01 + 20 * 10 * 0.001 + 2 * 100 * 0.0001
    assert pace.seconds(piece, max_rows=5, ranks=2) == pytest.approx(2 * one)
    assert pace.seconds(Sampling(0, 0, 100, 10, 30), max_rows=5, ranks=2) == 0


def test_updates_with_another_number_of_passes_than_measured() -> None:
    # with the reference's pass a token takes 4 ms: 3 for the update, 1 for the pass
    pace = UpdatePace(update_seconds=0.5, token_seconds=0.004, forwards=1.0)
    assert pace.forward_seconds == pytest.approx(0.001)
    piece = Updates(CONFIG, times=3, rows=4, prompts=1, prompt_tokens=60, tokens=10, limit=30, forwards=1.5)
    assert pace.seconds(piece) == pytest.approx(3 * (0.5 + 100 * 0.0045))
    without = UpdatePace(0.5, 0.003)
    assert without.seconds(piece) == pytest.approx(3 * (0.5 + 100 * 0.0045))


def test_a_stage_is_the_sum_of_its_pieces() -> None:
    updates = Updates(CONFIG, 1, 1, 0, 0, 100, 100, forwards=1)
    pace = MeasuredPace(2, 8)
    pace.sampling["m", False] = SamplingPace(0.01, 0.0, 0.0)
    pace.updates[update_key("m", CONFIG)] = UpdatePace(0.0, 0.004, 1.0)
    pace.start_seconds["m"], pace.sync_seconds["m"], pace.grading_seconds = 2.0, 0.3, 0.25
    assert pace.seconds("m", [Start(2)]) == 4
    assert pace.seconds("m", [Sync(3)]) == pytest.approx(3 * (0.3 + SYNC_TOKENS * 0.01))
    assert pace.seconds("m", [Grading(8)]) == 2
    pace.logging_seconds = 0.05
    assert pace.seconds("m", [updates]) == pytest.approx(0.4 + 0.05)
    pace.logging_seconds = 0.0
    # all ranks read, in the stage's own passes; the first one alone takes as many times as long
    assert pace.seconds("m", [updates, Reading(10, 50, 60)]) == pytest.approx(0.4 + 500 * 0.001)
    assert pace.seconds("m", [Reading(10, 50, 60, alone=True)]) == pytest.approx(2 * 500 * 0.001)
    with pytest.raises(KeyError):
        pace.seconds("other", [updates])


def test_stages_share_what_is_measured_where_it_is_equally_fast() -> None:
    longer = CONFIG.model_copy(update={"steps": 7, "group_size": 4})
    assert update_key("m", CONFIG) == update_key("m", longer)
    for change in ({"kl_coef": 0.0}, {"gradient_checkpointing": True}, {"tokens_per_micro_batch": 9}):
        assert update_key("m", CONFIG) != update_key("m", CONFIG.model_copy(update=change))


def test_lengths_of_a_wave_are_spread_as_assumed_and_mixed() -> None:
    lengths = _lengths(1000, 40, 10_000)
    assert sum(lengths) / 1000 == pytest.approx(40, rel=0.02)
    assert max(_lengths(1000, 40, 60)) == 60
    assert min(lengths) == 1
    assert sum(lengths[:100]) / 100 == pytest.approx(40, rel=0.2)  # no group has all the long ones


def test_mean_lengths_of_samples_that_were_cut() -> None:
    assert mean_length(500, num_stopped=8, num=10, cut_at=90, limit=90) == 50
    # 400 tokens until 4 stopped: 100 each, of which a limit of 100 leaves 1 - 1/e
    assert mean_length(400, num_stopped=4, num=10, cut_at=50, limit=100) == pytest.approx(63.212, abs=1e-3)
    assert mean_length(400, num_stopped=0, num=10, cut_at=40, limit=100) == 100
