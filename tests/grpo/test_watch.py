import pytest

from r1kit.grpo.groups import Group
from r1kit.grpo.watch import Watch, rollout_metrics
from tests.grpo.scripted import breakdown, problems, rollout
from tests.grpo.test_config import config


def group(wave, rows):
    (problem,) = problems(1)
    rollouts = tuple(rollout(problem, sample=i, tokens=n, cut=cut) for i, (_, n, cut) in enumerate(rows))
    return Group("a", wave, rollouts, tuple(parts for parts, _, _ in rows))


def test_rewards_are_averaged_over_the_first_wave_before_anything_is_dropped():
    right, wrong = breakdown(accuracy=1.0, format=1.0), breakdown(accuracy=0.0, format=1.0)
    groups = [
        group(0, [(right, 10, False), (wrong, 4, True)]),
        group(0, [(right, 20, False), (right, 30, False)]),
        group(0, [(breakdown(accuracy=None), 6, False), (wrong, 8, False)]),
        group(1, [(wrong, 100, False), (wrong, 100, False)]),
    ]
    row = rollout_metrics(groups, config())
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


def alarms(rows, **fields):
    watch = Watch(config(probe="held_out", probe_size=100, **fields))
    return [watch.alarms(row) for row in rows]


def probed(reward, accuracy):
    return {"reward/mean": reward, "eval/held_out_accuracy": accuracy}


def test_reward_up_and_held_out_accuracy_down_is_an_alarm_once():
    # 0.6 to 0.4 of 100: a difference of 0.2, its standard error sqrt(2 * 0.25 / 100) = 0.07;
    # the rewards are means over the steps since the probe before
    found = alarms(
        [probed(1.0, 0.5), probed(1.1, 0.6), {"reward/mean": 1.4}, probed(1.5, 0.4), probed(1.6, 0.4)]
    )
    assert [len(step) for step in found] == [0, 0, 0, 1, 0]
    assert (
        "reward rises (1.100 to 1.450) while held-out accuracy falls (0.60 to 0.40 on 'held_out')"
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
    (note,) = Watch(config()).alarms(rollout_metrics(groups, config()), groups)
    assert "no group of this step had anything to learn from (3 all wrong)" in note
