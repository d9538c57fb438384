import copy

import pytest
import torch

from r1kit.grpo.groups import scored_group
from r1kit.grpo.learner import Learner, TrainedRollout, average_metrics, split_rows
from r1kit.grpo.step import advantages_of, train_step
from r1kit.model import packing
from r1kit.model.logprobs import completion_logprobs
from r1kit.training.policy_losses import KL_ESTIMATORS, POLICY_LOSSES, Totals
from r1kit.training.trainer import Trainer
from tests.bounds import assert_same, relative_error, same_numbers, unit_roundoff
from tests.grpo.scripted import breakdown, problems, rollout
from tests.grpo.test_config import config
from tests.tiny_models import load_tiny, tiny_model

pytestmark = pytest.mark.numerical

RIGHT, WRONG, LOST = breakdown(accuracy=1.0), breakdown(accuracy=0.0), breakdown(accuracy=None)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return load_tiny(tiny_model(tmp_path_factory.mktemp("model")))[0]


def group(index, breakdowns, *, cut=(), constant="accuracy"):
    problem = problems(9)[index]
    rollouts = tuple(
        rollout(problem, group=index, sample=i, tokens=2 + i + index, cut=i in cut)
        for i in range(len(breakdowns))
    )
    return scored_group("a", 0, rollouts, breakdowns, constant=constant)


def learner(policy, *, shard=None, **fields):
    settings = config(
        optimizer={"learning_rate": 1e-2}, **({"mini_batches": 1, "problems_per_step": 4} | fields)
    )
    return Learner(copy.deepcopy(policy), settings, pad_id=1, seed=3, shard=shard), settings


def weights(policy):
    return torch.cat([parameter.detach().flatten() for parameter in policy.parameters()])


LENGTHS = [{"from_step": 1, "value": 9}, {"from_step": 2, "value": 7}]
GROUPS = [group(0, [RIGHT, WRONG, WRONG]), group(1, [RIGHT, RIGHT, WRONG]), group(2, [WRONG, WRONG, WRONG])]


def test_advantages_by_hand_with_a_missing_reward_and_a_constant_group():
    found = advantages_of([group(0, [RIGHT, WRONG, LOST, WRONG]), group(1, [RIGHT] * 4)], config())
    # mean 1/3 and population std sqrt(2)/3 of 1, 0, 0: advantages sqrt(2), -1/sqrt(2), -1/sqrt(2)
    root = 2**0.5
    assert found[0] == [pytest.approx(root, abs=1e-5), pytest.approx(-1 / root, abs=1e-5), None, found[0][1]]
    assert found[1] == [None] * 4


def test_tiny_differences_are_not_blown_up_beyond_the_floor():
    close = [breakdown(helpful=0.50), breakdown(helpful=0.52)]
    ((low, high),) = advantages_of([group(0, close)], config(advantage_std_floor=0.1))
    assert (low, high) == (pytest.approx(-0.1, abs=1e-4), pytest.approx(0.1, abs=1e-4))
    ((low, high),) = advantages_of([group(0, close)], config(advantage_std_floor=0.0))
    assert (low, high) == (pytest.approx(-1, abs=1e-3), pytest.approx(1, abs=1e-3))


def test_truncated_rows_are_penalised_or_masked_and_count_in_the_mean_either_way():
    groups = [group(0, [RIGHT, WRONG], cut=[1])]
    assert advantages_of(groups, config(truncated="penalise"))[0] == pytest.approx([1.0, -1.0], abs=1e-5)
    masked = advantages_of(groups, config(truncated="mask"))[0]
    assert masked == [pytest.approx(1.0, abs=1e-5), None]


def test_the_split_is_random_even_and_in_order():
    rows = [TrainedRollout(rollout(problems(1)[0], sample=i), 0.0) for i in range(10)]
    parts = split_rows(rows, 3, seed=1)
    assert [len(part) for part in parts] == [4, 3, 3]
    samples = [[row.rollout.sample for row in part] for part in parts]
    assert sorted(i for part in samples for i in part) == list(range(10))
    assert all(part == sorted(part) for part in samples)
    assert samples != [[row.rollout.sample for row in part] for part in split_rows(rows, 3, seed=2)]


@pytest.mark.parametrize("loss", POLICY_LOSSES)
def test_the_gradient_does_not_depend_on_the_micro_batches(policy, monkeypatch, loss):
    results = []
    for budget in (8, 10_000):
        trained, settings = learner(
            policy, tokens_per_micro_batch=budget, kl_coef=0.1, loss=loss, max_new_tokens=8
        )
        gradients = []

        def keep(parameters, *_, into=gradients):
            into.append(torch.cat([p.grad.flatten() for p in parameters]))
            return into[-1].norm()

        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", keep)
        row = train_step(trained, 1, GROUPS, advantages_of(GROUPS, settings))
        results.append((gradients[0], row))
    assert results[0][0].abs().max() > 0.1
    assert_same(results[0][0], results[1][0], policy)
    assert results[0][1] == same_numbers(results[1][1], policy)


def test_the_learner_counts_what_losses_are_divided_by(policy):
    trained, settings = learner(policy, mini_batches=1, loss="dr_grpo", max_new_tokens=LENGTHS)
    seen = []

    def spy(*tensors, totals, **options):
        seen.append(totals)
        return POLICY_LOSSES["dr_grpo"](*tensors, totals=totals, **options)

    trained._policy_loss = spy
    train_step(trained, 1, GROUPS, advantages_of(GROUPS, settings))
    # rows of 2, 3, 4 and of 3, 4, 5 tokens; the constant group is not trained; the longest limit of the stage
    assert seen == [Totals(num_rows=6, num_tokens=21, max_length=9)]


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_the_learner_takes_the_recipes_kl(policy, estimator):
    # a reference that is off: its KL is no longer 0, and every estimator sees another one
    trained, settings = learner(policy, kl_coef=0.1, kl_estimator=estimator)
    with torch.no_grad():
        trained.reference.get_input_embeddings().weight.mul_(0.5)
    tokens = trained._collate([TrainedRollout(r, 0.0) for group in GROUPS[:2] for r in group.rollouts])
    ours, ref = (trained._frozen_logprobs(model, tokens) for model in (trained.policy, trained.reference))
    mask = tokens.loss_mask_BT
    values = KL_ESTIMATORS[estimator](ours, ref) * mask
    row = train_step(trained, 1, GROUPS, advantages_of(GROUPS, settings))
    assert row["kl/ref"] == same_numbers(float((values.sum(1) / mask.sum(1)).mean()), policy)


@pytest.mark.parametrize(("mini_batches", "loss"), [(1, "grpo"), *((2, loss) for loss in POLICY_LOSSES)])
def test_an_update_with_shared_prompts_is_that_of_padded_rows(policy, monkeypatch, mini_batches, loss):
    # a row without a reward is dropped from its group, a constant group as a whole
    groups = [
        group(0, [RIGHT, WRONG, LOST, WRONG, RIGHT]),
        group(1, [*[WRONG] * 4, RIGHT]),
        group(2, [RIGHT] * 5),
    ]
    results = []
    for batching in (packing.SHARED_PROMPTS, packing.PADDED):
        monkeypatch.setattr("r1kit.grpo.learner.batching_for", lambda _, batching=batching: batching)
        # groups are split over micro-batches, rows never are: with gspo a ratio is of a whole row
        trained, settings = learner(
            policy,
            kl_coef=0.1,
            mini_batches=mini_batches,
            loss=loss,
            max_new_tokens=8,
            tokens_per_micro_batch=20,
            clip_eps=1e-3,
        )
        # Adam's first update is the gradient's sign where it is far from 0: plain descent shows its size
        trained.trainer._optimizer = torch.optim.SGD(trained.policy.parameters(), lr=1e-2)
        row = train_step(trained, 1, groups, advantages_of(groups, settings))
        results.append((weights(trained.policy), row))
    # each update is rounded to the weights' own digits
    digits = mini_batches * 2 * unit_roundoff() * float(weights(policy).abs().max())
    moved = [after - weights(policy) for after, _ in results]
    assert moved[0].abs().max() > 1e-4
    bound = digits + relative_error(policy) * float(moved[0].abs().max())
    torch.testing.assert_close(*moved, rtol=0, atol=bound)
    assert results[0][1] == same_numbers(results[1][1], policy)


def test_a_right_answer_becomes_likelier_and_a_wrong_one_less_so(policy):
    trained, settings = learner(policy, kl_coef=0.0)
    groups = GROUPS[:1]
    rows = [TrainedRollout(r, 0.0) for r in groups[0].rollouts]
    before = trained._old_logprobs(rows).sum(1)
    train_step(trained, 1, groups, advantages_of(groups, settings))
    after = trained._old_logprobs(rows).sum(1)
    assert after[0] > before[0]
    assert after[2] < before[2]


@pytest.mark.parametrize(
    ("mini_batches", "inner_epochs", "num_rows"), [(1, 1, 0), (1, 3, 0), (2, 1, 3), (2, 3, 3)]
)
def test_old_logprobs_are_computed_only_where_they_differ(
    policy, monkeypatch, mini_batches, inner_epochs, num_rows
):
    # the first mini-batch's own logprobs are the old ones, in later epochs those that were kept
    trained, settings = learner(policy, mini_batches=mini_batches, inner_epochs=inner_epochs)
    computed = []
    old_logprobs = Learner._old_logprobs

    def spy(self, rows):
        computed.extend(rows)
        return old_logprobs(self, rows)

    monkeypatch.setattr(Learner, "_old_logprobs", spy)
    train_step(trained, 1, GROUPS, advantages_of(GROUPS, settings))
    assert len(computed) == num_rows
    assert trained.trainer.num_updates == mini_batches * inner_epochs
    assert trained.trainer.total_steps == settings.steps * mini_batches * inner_epochs


@pytest.mark.parametrize("budget", [8, 10_000])
def test_a_second_inner_epoch_is_off_policy_by_the_first(policy, budget):
    trained, settings = learner(policy, inner_epochs=2, tokens_per_micro_batch=budget)
    rows = [TrainedRollout(r, 0.0) for group in GROUPS[:2] for r in group.rollouts]
    before = trained._old_logprobs(rows)
    row = train_step(trained, 1, GROUPS, advantages_of(GROUPS, settings))
    once, settings = learner(policy, inner_epochs=1, tokens_per_micro_batch=budget)
    train_step(once, 1, GROUPS, advantages_of(GROUPS, settings))
    mask = before != 0
    ratios = (once._old_logprobs(rows) - before).exp() * mask
    # the first epoch's ratio is 1
    expected = (1 + float((ratios.sum(1) / mask.sum(1)).mean())) / 2
    assert abs(expected - 1) > 1e-3
    assert row["policy/ratio_mean"] == pytest.approx(expected, rel=relative_error(policy))


@pytest.mark.parametrize(("correction", "cap"), [("token", 3.0), ("sequence", 1.5)])
def test_importance_correction_weighs_against_the_sampler(policy, monkeypatch, correction, cap):
    def gradient(**fields):
        trained, settings = learner(policy, kl_coef=0.0, tokens_per_micro_batch=12, **fields)
        kept = []

        def keep(parameters, *_):
            kept.append(torch.cat([p.grad.flatten() for p in parameters]))
            return kept[-1].norm()

        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", keep)
        row = train_step(trained, 1, GROUPS[:1], advantages_of(GROUPS[:1], settings))
        return kept[0], row

    start, settings = learner(policy, kl_coef=0.0)
    (advantages,) = advantages_of(GROUPS[:1], settings)
    rows = [TrainedRollout(r, a) for r, a in zip(GROUPS[0].rollouts, advantages, strict=True)]
    tokens = start._collate(rows)
    logprobs, _ = completion_logprobs(start.policy, tokens)
    mask = tokens.loss_mask_BT
    # the rollouts claim a logprob of -1 for every token
    difference = (logprobs.detach() + 1.0) * mask
    if correction == "sequence":
        difference = difference.sum(1, keepdim=True) * mask
    weights = difference.exp().clamp(max=cap) * mask
    loss = -(logprobs * weights * torch.tensor(advantages)[:, None] / mask.sum(1, keepdim=True)).sum() / 3
    loss.backward()
    expected = torch.cat([p.grad.flatten() for p in start.policy.parameters()])
    found, row = gradient(importance_correction=correction, importance_cap=cap)
    assert_same(found, expected, policy)
    plain, plain_row = gradient()
    assert (plain - expected).abs().max() > 1e-3
    # the raw difference is logged the same with and without
    for name in ("sampler/logratio_mean", "sampler/logratio_max"):
        assert row[name] == plain_row[name] > 0.1
    assert row["sampler/capped_frac"] == pytest.approx(float((weights == cap).sum() / mask.sum()))
    assert "sampler/capped_frac" not in plain_row


def test_logprobs_are_taken_at_the_temperature_of_the_step(policy):
    schedule = [{"from_step": 1, "value": 1.0}, {"from_step": 2, "value": 0.5}]
    rows = [TrainedRollout(r, 0.0) for r in GROUPS[0].rollouts]
    trained, settings = learner(policy, temperature=schedule)
    fixed, _ = learner(policy, temperature=0.5)
    assert not torch.equal(
        trained._old_logprobs(rows),
        fixed._old_logprobs(rows),
    )
    advantages = advantages_of(GROUPS, settings)
    assert train_step(trained, 2, GROUPS, advantages) == train_step(fixed, 2, GROUPS, advantages)
    assert torch.equal(weights(trained.policy), weights(fixed.policy))


def test_an_all_right_group_gets_no_unit_advantages_from_tiny_differences_in_language():
    # all right and well formed, language consistency 0.98 to 1.00: mean 0.9925
    close = [breakdown(accuracy=1.0, format=1.0, language=v) for v in (0.98, 1.0, 0.99, 1.0)]
    # by accuracy the group teaches nothing, whatever the language
    assert advantages_of([group(0, close)], config()) == [[None] * 4]
    # by reward it does, held down by the floor: (0.98 - 0.9925) / 0.1 and (1 - 0.9925) / 0.1
    (found,) = advantages_of([group(0, close, constant="reward")], config(constant_groups="reward"))
    assert found == pytest.approx([-0.125, 0.075, -0.025, 0.075], abs=1e-4)
    # an answer that is wrong is not drowned by it: mean (3 * 2.9925... - 1) is set by the wrong one
    mixed = [*close[:3], breakdown(accuracy=0.0, format=1.0, language=1.0)]
    (found,) = advantages_of([group(0, mixed)], config())
    assert found[3] < -1.7
    assert max(found[:3]) - min(found[:3]) < 0.05


def test_old_logprobs_stay_those_of_the_first_mini_batch(policy):
    trained, settings = learner(policy, mini_batches=2, clip_eps=0.01)
    row = train_step(trained, 1, GROUPS, advantages_of(GROUPS, settings))
    # the second update's ratio has moved away from 1, the first one's has not
    assert row["policy/clip_frac"] > 0
    assert row["kl/old"] > 0
    single, settings = learner(policy, mini_batches=1, clip_eps=0.01)
    row = train_step(single, 1, GROUPS, advantages_of(GROUPS, settings))
    assert row["policy/clip_frac"] == 0
    assert row["policy/ratio_mean"] == pytest.approx(1.0, abs=relative_error(policy))


def test_the_sampler_is_compared_with_the_policy_before_the_update(policy):
    trained, settings = learner(policy, mini_batches=2)
    groups = GROUPS[:1]
    logprobs = trained._old_logprobs([TrainedRollout(r, 0.0) for r in groups[0].rollouts])
    mask = logprobs != 0
    # the rollouts claim a logprob of -1 for every token
    expected = (logprobs[mask] + 1.0).abs()
    row = train_step(trained, 1, groups, advantages_of(groups, settings))
    assert row["sampler/logratio_max"] == same_numbers(float(expected.max()), policy)


def test_the_reference_is_the_start_until_its_refresh_is_due(policy):
    trained, settings = learner(policy, mini_batches=2, kl_coef=0.1, reference_refresh_every=4)
    advantages = advantages_of(GROUPS, settings)
    start = weights(policy)
    for step in (1, 2):
        train_step(trained, step, GROUPS, advantages)
        assert torch.equal(weights(trained.reference), start)
    after_four_updates = weights(trained.policy)
    train_step(trained, 3, GROUPS, advantages)
    assert torch.equal(weights(trained.reference), after_four_updates)
    assert trained.refreshed_at == 4


def test_with_lora_the_reference_is_the_adapter_off_then_that_of_the_last_refresh(policy):
    lora = {"rank": 4, "alpha": 8}
    trained, settings = learner(policy, mini_batches=2, kl_coef=0.1, reference_refresh_every=4, lora=lora)
    advantages = advantages_of(GROUPS, settings)
    tokens = trained._collate([TrainedRollout(r, 0.0) for group in GROUPS[:2] for r in group.rollouts])
    start = trained._reference_logprobs(tokens)
    assert_same(start, trained._frozen_logprobs(policy, tokens), policy)  # the base, not fused
    assert trained.reference is None  # no second model
    rows = [train_step(trained, step, GROUPS, advantages) for step in (1, 2)]
    assert rows[0]["kl/ref"] < rows[1]["kl/ref"]
    assert torch.equal(trained._reference_logprobs(tokens), start)
    after_four_updates = trained._old_logprobs(
        [TrainedRollout(r, 0.0) for g in GROUPS[:2] for r in g.rollouts]
    )
    assert (after_four_updates - start).abs().max() > 1e-3
    train_step(trained, 3, GROUPS, advantages)
    assert trained.refreshed_at == 4
    assert torch.equal(trained._reference_logprobs(tokens), after_four_updates)
    state = trained.state_dict()
    resumed, _ = learner(policy, mini_batches=2, kl_coef=0.1, reference_refresh_every=4, lora=lora)
    resumed.load_state_dict(copy.deepcopy(state))
    assert train_step(trained, 4, GROUPS, advantages) == train_step(resumed, 4, GROUPS, advantages)
    assert torch.equal(weights(trained.policy), weights(resumed.policy))


def test_without_kl_no_reference_is_held_and_none_is_reported(policy):
    trained, settings = learner(policy, kl_coef=0.0)
    assert trained.reference is None
    assert "kl/ref" not in train_step(trained, 1, GROUPS, advantages_of(GROUPS, settings))


def test_a_step_with_nothing_to_learn_leaves_the_weights_and_counts_its_updates(policy):
    trained, settings = learner(policy, mini_batches=2)
    row = train_step(trained, 1, GROUPS[2:], advantages_of(GROUPS[2:], settings))
    assert torch.equal(weights(trained.policy), weights(policy))
    assert trained.trainer.num_updates == 2
    assert row["update/skipped"] == 0


def test_several_updates_make_one_row():
    row = average_metrics(
        [{"a": 1.0, "b_max": 3.0, "update/skipped": 1.0}, {"a": 2.0, "b_max": 1.0, "update/skipped": 1.0}]
    )
    assert row == {"a": 1.5, "b_max": 3.0, "update/skipped": 2.0}
    assert average_metrics([{"kl/ref": 1.0, "x": 1.0}, {"x": 3.0}]) == {"kl/ref": 1.0, "x": 2.0}


def test_the_trainer_gets_every_row_of_a_step_exactly_once(policy, monkeypatch):
    seen = []
    update, micro_batch = Trainer.update, Learner._micro_batch

    def updating(self, losses):
        seen.append(0)
        return update(self, losses)

    def spy(self, rows, old_logprobs_BT):
        seen[-1] += len(rows)
        return micro_batch(self, rows, old_logprobs_BT)

    monkeypatch.setattr(Trainer, "update", updating)
    monkeypatch.setattr(Learner, "_micro_batch", spy)
    trained, settings = learner(policy, mini_batches=4, tokens_per_micro_batch=12)
    train_step(trained, 1, GROUPS, advantages_of(GROUPS, settings))
    assert seen == [2, 2, 1, 1]
