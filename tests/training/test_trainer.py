"""The shared loop: budgets and ranks don't matter, broken updates don't arrive, state goes on to the bit."""

import functools
import math
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from r1kit.errors import StageHalted
from r1kit.model.logprobs import collate, completion_logprobs, pack_by_tokens
from r1kit.ranks import collectives
from r1kit.training.losses import LossParts, next_token_loss
from r1kit.training.policy_losses import POLICY_LOSSES, Totals, k3_kl
from r1kit.training.trainer import LoraConfig, OptimizerConfig, Trainer
from tests.bounds import assert_same, relative_error, same_numbers, smooth_adam
from tests.tiny_models import load_tiny, tiny_model

pytestmark = pytest.mark.numerical

_GENERATOR = torch.Generator().manual_seed(1)
PROMPTS = [torch.randint(10, 300, (3 + i % 4,), generator=_GENERATOR).tolist() for i in range(8)]
COMPLETIONS = [torch.randint(10, 300, (1 + 3 * i % 7,), generator=_GENERATOR).tolist() for i in range(8)]
ADVANTAGES = [1.0, -1.0, 0.5, 2.0, -0.3, 0.0, 1.5, -2.0]


def make_trainer(folder: Path, **options) -> Trainer:
    model, _ = load_tiny(tiny_model(folder))
    config = OptimizerConfig(learning_rate=1e-2, **options)
    return Trainer(model, config, total_steps=10)


def policy_rows(model, pack, *, loss) -> LossParts:
    batch = collate([PROMPTS[i] for i in pack], [COMPLETIONS[i] for i in pack], pad_id=1)
    logprobs_BT, _ = completion_logprobs(model, batch)
    advantages = torch.tensor([ADVANTAGES[i] for i in pack])
    # an old policy and a reference that are off by an amount of the row's own
    offset = torch.tensor([0.05 * i - 0.2 for i in pack]).unsqueeze(1)
    totals = Totals(num_rows=8, num_tokens=sum(map(len, COMPLETIONS)), max_length=9)
    settings = {"clip_low": 0.2, "clip_high": 0.2, "kl_coef": 0.1, "kl": k3_kl, "totals": totals}
    old, ref = logprobs_BT.detach() + offset, logprobs_BT.detach() - offset
    return POLICY_LOSSES[loss](logprobs_BT, old, ref, advantages, batch.loss_mask_BT, **settings)


POLICY_ROWS = [functools.partial(policy_rows, loss=loss) for loss in POLICY_LOSSES]
grpo_rows = POLICY_ROWS[0]


def sft_rows(model, pack) -> LossParts:
    batch = collate([PROMPTS[i] for i in pack], [COMPLETIONS[i] for i in pack], pad_id=1)
    logprobs_BT, _ = completion_logprobs(model, batch)
    num_trained = sum(map(len, COMPLETIONS))
    return next_token_loss(logprobs_BT, batch.loss_mask_BT, denominator=num_trained)


def packs_of(budget: int) -> list[list[int]]:
    lengths = [len(p) + len(c) for p, c in zip(PROMPTS, COMPLETIONS, strict=True)]
    return pack_by_tokens(lengths, budget)


def flat_weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in trainer.model.parameters()])


@pytest.mark.parametrize("rows", [*POLICY_ROWS, sft_rows], ids=[*POLICY_LOSSES, "sft"])
def test_gradients_do_not_depend_on_the_micro_batch_token_budget(tmp_path, rows):
    model, _ = load_tiny(tiny_model(tmp_path))
    grads, losses = [], []
    for budget in (1, 25, 10_000):
        model.zero_grad()
        parts = [rows(model, pack) for pack in packs_of(budget)]
        sum(part.loss for part in parts).backward()
        losses.append(sum(part.loss.item() for part in parts))
        grads.append(torch.cat([p.grad.reshape(-1) for p in model.parameters()]))
    assert [len(packs_of(budget)) for budget in (1, 25, 10_000)][::2] == [8, 1]
    assert losses == same_numbers([losses[0]] * 3, model)
    assert float(grads[0].abs().max()) > 1e-3
    for other in grads[1:]:
        assert_same(other, grads[0], model)


def test_an_update_reports_and_moves_the_weights_by_adam(tmp_path):
    trainer = make_trainer(tmp_path, max_grad_norm=1e9)
    before = flat_weights(trainer)
    row = trainer.update(map(functools.partial(sft_rows, trainer.model), packs_of(25)))
    moved = (flat_weights(trainer) - before).abs()
    # Adam's first step is the learning rate times g / (|g| + eps)
    assert float(moved.max()) == pytest.approx(1e-2, rel=1e-3)
    assert row["learning_rate"] == 1e-2
    assert row["update/skipped"] == 0.0
    expected = sft_rows(load_tiny(tmp_path)[0], range(8)).loss.item()
    assert row["loss"] == pytest.approx(expected, rel=relative_error(trainer.model))
    assert row["grad_norm"] > 0


def test_gradients_are_clipped_to_their_norm_and_the_norm_before_is_reported():
    # sgd-like check through Adam's second moment: exp_avg_sq = (1 - 0.95) * clipped gradient ** 2
    model = torch.nn.Linear(2, 1, bias=False)
    trainer = Trainer(model, OptimizerConfig(learning_rate=0.1, max_grad_norm=1.0), total_steps=1)
    row = trainer.update([LossParts(model(torch.tensor([3.0, 4.0])).sum(), {})])
    assert row["grad_norm"] == pytest.approx(5.0)
    (state,) = trainer.state_dict()["optimizer"]["state"].values()
    assert state["exp_avg_sq"].flatten().tolist() == pytest.approx([0.05 * 0.36, 0.05 * 0.64], rel=1e-4)


def test_metrics_add_up_and_of_max_the_largest_counts():
    model = torch.nn.Linear(1, 1)
    trainer = Trainer(model, OptimizerConfig(), total_steps=1)

    def loss_fn(value: float) -> LossParts:
        metrics = {"a": torch.tensor(value), "a_max": torch.tensor(value)}
        return LossParts(model(torch.ones(1)).sum() * 0.0, metrics)

    row = trainer.update(map(loss_fn, [1.0, 3.0, 2.0]))
    assert (row["a"], row["a_max"]) == (6.0, 3.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_non_finite_update_is_skipped_and_the_third_in_a_row_halts(bad):
    model = torch.nn.Linear(1, 1)
    trainer = Trainer(model, OptimizerConfig(learning_rate=0.1), total_steps=10)
    before = flat_weights(trainer)

    def loss_fn(factor: float) -> LossParts:
        return LossParts(model(torch.ones(1)).sum() * factor, {})

    assert trainer.update(map(loss_fn, [1.0, bad]))["update/skipped"] == 1.0
    assert trainer.update(map(loss_fn, [bad]))["update/skipped"] == 1.0
    assert torch.equal(flat_weights(trainer), before)
    assert trainer.update(map(loss_fn, [1.0]))["update/skipped"] == 0.0  # and the count starts again
    good = flat_weights(trainer)
    assert not torch.equal(good, before)
    trainer.update(map(loss_fn, [bad]))
    trainer.update(map(loss_fn, [bad]))
    with pytest.raises(StageHalted, match=r"update 6.*3 times in a row.*learning_rate"):
        trainer.update(map(loss_fn, [bad]))
    assert torch.equal(flat_weights(trainer), good)
    assert trainer.num_skipped == 5


def test_a_mini_batch_without_anything_to_train_is_no_error_and_no_change(tmp_path):
    trainer = make_trainer(tmp_path)
    before = flat_weights(trainer)
    row = trainer.update([])
    assert row["grad_norm"] == 0.0
    assert torch.equal(flat_weights(trainer), before)


def test_dropout_is_off_while_training():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5))
    Trainer(model, OptimizerConfig(), total_steps=1)
    assert not model[1].training
    assert torch.equal(model(torch.ones(4)), model(torch.ones(4)))


def test_state_goes_on_to_the_bit(tmp_path):
    options = {"schedule": "cosine", "warmup_steps": 2}
    whole = make_trainer(tmp_path, **options)
    for _ in range(3):
        whole.update(map(functools.partial(grpo_rows, whole.model), packs_of(25)))
    torch.save(whole.state_dict(), tmp_path / "state.pt")
    rows = [whole.update(map(functools.partial(grpo_rows, whole.model), packs_of(25))) for _ in range(3)]
    draw = torch.rand(3)

    torch.rand(100)
    resumed = make_trainer(tmp_path, **options)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [
        resumed.update(map(functools.partial(grpo_rows, resumed.model), packs_of(25))) for _ in range(3)
    ] == rows
    assert torch.equal(flat_weights(resumed), flat_weights(whole))
    assert torch.equal(torch.rand(3), draw)


def two_updates(
    folder: str, lora: LoraConfig | None = None
) -> tuple[dict[str, float], torch.Tensor, dict[str, float], torch.Tensor]:
    """The first update's metrics and gradient, the second's metrics, and the weights after both."""
    model, _ = load_tiny(Path(folder) / "model")
    config = OptimizerConfig(learning_rate=1e-2, max_grad_norm=1e9)
    trainer = Trainer(model, config, total_steps=10, lora=lora)
    smooth_adam(trainer._optimizer)
    # several packs on two ranks, and then one, which leaves the second rank without any
    first = trainer.update(map(functools.partial(grpo_rows, model), collectives.shard(packs_of(25))))
    # after one update Adam's mean is a tenth of, here 1 - 0.9 times, the gradient
    states = trainer.state_dict()["optimizer"]["state"].values()
    grads = torch.cat([state["exp_avg"].flatten() for state in states]) * 10
    second = trainer.update(map(functools.partial(grpo_rows, model), collectives.shard(packs_of(10_000))))
    return first, grads, second, flat_weights(trainer)


def rank_main(rank: int, folder: str, lora: LoraConfig | None) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    torch.set_num_threads(1)
    torch.save(two_updates(folder, lora), Path(folder) / f"rank{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=4, alpha=8, dropout=0.3)], ids=["all", "lora"])
def test_two_ranks_train_as_one(tmp_path, lora):
    tiny_model(tmp_path / "model")
    mp.spawn(rank_main, (str(tmp_path), lora), nprocs=2)
    results = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    (first, grads, second, weights), (other_first, _, other_second, other_weights) = results
    assert (first, second) == (other_first, other_second)
    assert torch.equal(weights, other_weights)
    first_alone, grads_alone, second_alone, weights_alone = two_updates(str(tmp_path), lora)
    model, _ = load_tiny(tmp_path / "model")
    assert first == same_numbers(first_alone, model)
    assert float(grads_alone.abs().max()) > 1e-3
    assert_same(grads, grads_alone, model)
    assert second == same_numbers(second_alone, model)
    assert_same(weights, weights_alone, model)


def test_one_process_needs_no_group():
    assert (collectives.rank(), collectives.world_size(), collectives.is_main()) == (0, 1, True)
    assert collectives.all_reduce_sum(torch.ones(2)).tolist() == [1.0, 1.0]
    collectives.barrier()
