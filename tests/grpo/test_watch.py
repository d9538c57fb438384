import math
import random

import pytest

from r1kit.grpo.groups import scored_group
from r1kit.grpo.watch import Watch, rollout_metrics
from tests.grpo.scripted import breakdown, problems, rollout
from tests.grpo.test_config import config


def group(wave, rows):
    (problem,) = problems(1)
    rollouts = tuple(rollout(problem, sample=i, tokens=n, cut=cut) for i, (_, n, cut) in enumerate(rows))
    return scored_group("a", wave, rollouts, [parts for parts, _, _ in rows], constant="accuracy")


def test_rewards_are_averaged_over_the_first_wave_before_anything_is_dropped():
    right, wrong = breakdown(accuracy=1.0, format=1.0), breakdown(accuracy=0.0, format=1.0)
    groups = [
        group(0, [(right, 10, False), (wrong, 4, True)]),
        group(0, [(right, 20, False), (right, 30, False)]),
        group(0, [(breakdown(accuracy=None), 6, False), (wrong, 8, False)]),
        group(1, [(wrong, 100, False), (wrong, 100, False)]),
    ]
    row = rollout_metrics(groups)
    # totals 2 1 2 2 - 1; accuracies 1 0 1 1 - 0
    assert row["reward/mean"] == pytest.approx(8 / 5)
    assert row["reward/accuracy"] == pytest.approx(3 / 5)
    assert row["reward/format"] == 1.0
    assert row["reward/missing_frac"] == 1 / 8
    # lengths 10 4 20 30 6 8
    assert row["completion/length_mean"] == 13
    assert (row["completion/length_right"], row["completion/length_wrong"]) == (20, 6)
    assert row["completion/truncated_frac"] == 1 / 6
    assert row["completion/tokens"] == 278
    assert row["groups/constant_frac"] == row["groups/all_right_frac"] == 1 / 3
    assert (row["groups/sampled"], row["groups/resampled"], row["groups/trained"]) == (4, 1, 1)
    # why the other three of all waves were dropped: one all right; a lone valid reward is too few
    assert (row["groups/dropped_all_right"], row["groups/dropped_all_wrong"]) == (1, 1)
    assert row["groups/dropped_missing"] == 1


def alarms(rows, **fields):
    watch = Watch(config(probe="held_out", probe_size=100, **fields))
    return [watch.alarms(row) for row in rows]


def probed(reward, accuracy):
    return {"reward/mean": reward, "eval/held_out_accuracy": accuracy}


def test_reward_up_and_held_out_accuracy_down_is_an_alarm_once():
    # 0.6 to 0.35 of 100: a fall of 0.25, three standard errors are 3 sqrt(2 * 0.25 / 100) = 0.21. From four
    # probes on means of two are compared, here 0.55 with 0.35: three errors of 200 answers are 0.15.
    # The rewards are means over the steps since the probe before.
    found = alarms(
        [probed(1.0, 0.5), probed(1.1, 0.6), {"reward/mean": 1.4}, probed(1.5, 0.35), probed(1.6, 0.35)]
    )
    assert [len(step) for step in found] == [0, 0, 0, 1, 0]
    assert (
        "reward rises (1.100 to 1.450) while held-out accuracy falls (0.60 to 0.35 on 'held_out')"
        in found[3][0]
    )


def test_no_alarm_within_noise_or_when_both_fall():
    assert alarms([probed(1.0, 0.5), probed(1.5, 0.4)]) == [[], []]
    assert alarms([probed(1.0, 0.5), probed(0.9, 0.1)]) == [[], []]


def test_collapsed_entropy_truncation_and_mismatch_are_noted_when_they_begin():
    healthy = {"policy/entropy": 1.0, "completion/truncated_frac": 0.1, "sampler/logratio_max": 1e-4}
    ill = {"policy/entropy": 0.05, "completion/truncated_frac": 0.5, "sampler/logratio_max": 0.9}
    found = alarms([healthy, ill, ill, healthy, ill])
    assert [len(step) for step in found] == [0, 3, 0, 0, 3]
    assert "from 1.000 to 0.0500 nats" in found[1][0]
    assert "50% of the completions were cut off" in found[1][1]
    assert "differ by 0.000 on average, and by up to 0.90" in found[1][2]


def test_answers_that_the_verifier_could_not_compare_are_an_alarm_when_they_are_many():
    # 4 groups of 16: one of 64 is more than one in a hundred
    row = {"groups/sampled": 4.0, "verifier/timeouts": 0.0, "verifier/crashes": 0.0}
    found = alarms([row, row | {"verifier/timeouts": 3.0, "verifier/crashes": 1.0}])
    assert found[0] == []
    assert "ran out of time on 3 and crashed on 1 of 64 answers" in found[1][0]
    assert alarms([row | {"groups/sampled": 400.0, "verifier/timeouts": 64.0}]) == [[]]  # exactly 1%


def test_a_step_without_anything_to_learn_is_explained():
    wrong = breakdown(accuracy=0.0)
    groups = [group(0, [(wrong, 3, False), (wrong, 3, False)])] * 3
    (note,) = Watch(config()).alarms(rollout_metrics(groups), groups)
    assert "no group of this step had anything to learn from (3 all wrong)" in note


def healthy(steps=60, seed=0):
    """A curve as R1-Zero's: accuracy and length rise together, entropy falls, KL grows and is refreshed."""
    rng = random.Random(seed)
    rows = []
    for step in range(1, steps + 1):
        done = 1 - math.exp(-step / 15)
        rows.append(
            {
                "step": float(step),
                "reward/mean": 0.7 + done + rng.gauss(0, 0.05),
                "reward/accuracy": 0.2 + 0.6 * done + rng.gauss(0, 0.04),
                "completion/length_mean": 35 + 70 * done + rng.gauss(0, 4),
                "completion/truncated_frac": max(0.0, rng.gauss(0.05, 0.03)),
                "policy/entropy": 1.2 - 0.9 * done + rng.gauss(0, 0.03),
                "kl/ref": 0.01 * (step % 20) * rng.uniform(0.7, 1.5),
                "sampler/logratio_mean": 1e-6,
                "sampler/logratio_max": 1e-4,
                "groups/trained": 12.0,
                "groups/sampled": 16.0,
            }
            | ({"eval/held_out_accuracy": 0.2 + 0.6 * done + rng.gauss(0, 0.04)} if step % 10 == 0 else {})
        )
    return rows


@pytest.mark.parametrize("seed", range(20))
def test_a_healthy_curve_rings_nothing(seed):
    assert [found for found in alarms(healthy(seed=seed), problems_per_step=16) if found] == []


def rang(rows, **fields):
    """At which rows an alarm begins, and the text of the first."""
    found = alarms(rows, **fields)
    steps = [i for i, texts in enumerate(found) if texts]
    return steps, found[steps[0]][0] if steps else ""


def test_kl_that_jumps_or_is_large_rings():
    calm = [{"kl/ref": value} for value in (0.02, 0.03, 0.02, 0.03, 0.04)]
    # ten times the median of 0.03 is 0.3
    assert rang([*calm, {"kl/ref": 0.29}])[0] == []
    steps, text = rang([*calm, {"kl/ref": 0.31}, {"kl/ref": 0.4}])
    assert steps == [5]
    assert "KL to the reference is 0.310 nats per token, where 0.030 was usual" in text
    assert rang([{"kl/ref": 2.9}, {"kl/ref": 3.1}])[0] == [1]  # too early to say what is usual
    tiny = [{"kl/ref": 0.0001}] * 10
    assert rang([*tiny, {"kl/ref": 0.09}])[0] == []  # a thousand times nothing is nothing
    # a reference that is refreshed sends KL back to 0: growing again to where it was is no jump
    saw = [{"kl/ref": 0.1 * (step % 8)} for step in range(40)]
    assert rang(saw)[0] == []


def lengths(*pairs):
    """Five rows for each (tokens, accuracy)."""
    return [{"completion/length_mean": n, "reward/accuracy": a} for n, a in pairs for _ in range(5)]


def test_length_that_drifts_without_gain_rings():
    # row 14 is the first whose last five rows are twice as long as the first five, and no more often right
    steps, text = rang(lengths((50, 0.5), (80, 0.5), (100, 0.5)))
    assert steps == [14]
    assert "completions drift longer, from 50 to 100 tokens" in text
    assert "reward/accuracy 0.500 then, 0.500 now" in text
    assert rang(lengths((50, 0.5), (80, 0.55), (100, 0.6)))[0] == []  # longer and better: R1-Zero
    assert rang(lengths((50, 0.5), (80, 0.5), (99, 0.5)))[0] == []  # not twice as long
    assert rang(lengths((50, 0.5), (100, 0.8), (210, 0.8)))[0] == [14]  # better once, then only longer


def test_length_that_collapses_with_accuracy_rings():
    # 5 steps of 16 problems: around 0.55 three standard errors are 3 sqrt(2 * 0.25 / 80) = 0.24
    steps, text = rang(lengths((100, 0.7), (70, 0.5), (50, 0.4)), problems_per_step=16)
    assert steps == [14]
    assert "drift shorter, from 100 to 50 tokens, and earn less" in text
    assert rang(lengths((100, 0.6), (70, 0.6), (50, 0.4)), problems_per_step=16)[0] == []  # within noise
    assert rang(lengths((100, 0.6), (70, 0.6), (40, 0.7)), problems_per_step=16)[0] == []  # concise


def test_in_half_precision_single_tokens_may_differ_and_the_mean_decides():
    rounding = {"sampler/logratio_mean": 0.01, "sampler/logratio_max": 1.5}
    broken = {"sampler/logratio_mean": 0.2, "sampler/logratio_max": 1.5}
    assert Watch(config(), dtype="bfloat16").alarms(rounding) == []
    assert "differ by 0.200 on average" in Watch(config(), dtype="bfloat16").alarms(broken)[0]
    assert "by up to 1.50" in Watch(config(), dtype="float32").alarms(rounding)[0]


def test_the_probe_before_the_first_step_counts():
    rows = [{"step": 0, "eval/held_out_accuracy": 0.7}, {"step": 1, "reward/mean": 0.5}]
    rows += [{"step": 2, "reward/mean": 0.9, "eval/held_out_accuracy": 0.4}]
    steps, text = rang(rows)
    assert steps == [2]
    # the reward at the start is the first step's; at step 2 the mean of both
    assert "reward rises (0.500 to 0.700) while held-out accuracy falls (0.70 to 0.40" in text


def test_what_other_rewards_or_problems_gave_is_not_compared_with():
    rows = [{"step": step, **probed(1.0, 0.8)} for step in (1, 2)]
    rows += [{"step": step, **probed(2.0, 0.5)} for step in (3, 4)]
    assert rang(rows)[0] == [2]
    schedule = [{"from_step": 3, "weights": {"accuracy": 1.0, "format": 1.0}}]
    assert rang(rows, reward_schedule=schedule)[0] == []
    longer = lengths((50, 0.5), (80, 0.5), (160, 0.5))
    longer = [{"step": i + 1, **row} for i, row in enumerate(longer)]
    assert rang(longer, max_new_tokens=[{"from_step": 1, "value": 64}, {"from_step": 6, "value": 256}])[
        0
    ] == [14]
    assert (
        rang(longer, max_new_tokens=[{"from_step": 1, "value": 64}, {"from_step": 11, "value": 256}])[0] == []
    )


def test_what_holds_is_named_as_long_as_it_does():
    watch = Watch(config())
    ringing = []
    for entropy, cut in ((1.0, 0.0), (0.05, 0.0), (0.04, 0.5), (1.0, 0.5), (1.0, 0.0)):
        watch.alarms({"policy/entropy": entropy, "completion/truncated_frac": cut})
        ringing.append(watch.ringing)
    assert ringing == [[], ["entropy"], ["entropy", "truncated"], ["truncated"], []]
