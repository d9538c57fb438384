"""Parameters sharded over two ranks: gradients and weights of one process, and what can't be sharded."""

import functools
import json

import pytest
import torch
from safetensors.torch import load_file

from r1kit.errors import ModelError
from r1kit.grpo.step import advantages_of, train_step
from r1kit.model.loading import load_model, load_tokenizer, save_model
from r1kit.model.logprobs import collate, completion_logprobs
from r1kit.model.packing import SHARED_PROMPTS
from r1kit.model.scorers import load_reward_model
from r1kit.preferences.reward_model import score_rows
from r1kit.ranks import collectives
from r1kit.ranks.sharding import (
    clip_gradients,
    is_sharded,
    mesh_of,
    shard_model,
    share,
    weights_to_save,
    whole,
    whole_weights,
)
from r1kit.training.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from r1kit.training.losses import pairwise_loss, without_fillers
from r1kit.training.optim import OptimizerConfig
from r1kit.training.trainer import Trainer
from tests.bounds import assert_same, relative_error, same_numbers, smooth_adam
from tests.grpo.test_learner import GROUPS, learner
from tests.on_ranks import on_ranks
from tests.tiny_models import load_tiny, tiny_model
from tests.training.test_trainer import COMPLETIONS, PROMPTS, packs_of, sft_rows

pytestmark = pytest.mark.numerical

BUDGETS = (25, 60, 10_000)
FAMILIES = ("qwen3", "qwen2", "llama")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


def sharded(model, **options):
    shard_model(model, device="cpu", **options)
    return model


def first_gradient(trainer):
    """The gradient of the only update there was: Adam's mean is a tenth of it (clipped)."""
    states = trainer.state_dict()["optimizer"]["state"].values()
    return torch.cat([whole(state["exp_avg"]).flatten() for state in states]) * 10


def weights(model):
    named = {name for name, _ in model.named_parameters()}  # of tied ones each only once
    return {name: tensor.clone() for name, tensor in whole_weights(model) if name in named}


def save(path, value):
    if collectives.is_main():
        torch.save(value, path)


def grpo_update(folder, path, *, budget, shard, loss="grpo"):
    options = {"loss": loss, "kl_coef": 0.1, "tokens_per_micro_batch": budget, "mini_batches": 1}
    made, settings = learner(load_tiny(folder)[0], shard=sharded if shard else None, **options)
    assert is_sharded(made.policy) is is_sharded(made.reference) is shard
    row = train_step(made, 1, GROUPS, advantages_of(GROUPS, settings))
    save(path, (first_gradient(made.trainer), row))


def sft_update(folder, path, *, budget, shard):
    model = load_tiny(folder)[0]
    trainer = Trainer(sharded(model) if shard else model, OptimizerConfig(), total_steps=1)
    own, num_real = share(model, packs_of(budget))
    row = trainer.update(without_fillers((sft_rows(model, pack) for pack in own), num_real))
    save(path, (first_gradient(trainer), row))


def reward_model_update(folder, path, *, budget, shard):
    model = load_reward_model(str(folder), seed=5)
    trainer = Trainer(sharded(model) if shard else model, OptimizerConfig(), total_steps=1)
    pairs = [(PROMPTS[i] + COMPLETIONS[i], PROMPTS[i] + COMPLETIONS[i + 1]) for i in range(0, 8, 2)]
    num = {25: 1, 60: 2, 10_000: 4}[budget]  # pairs in a micro-batch: 4, 2 and 1 of them
    packs = [pairs[i : i + num] for i in range(0, 4, num)]

    def loss(pack):
        scores = score_rows(model, [row for pair in pack for row in pair], 1)
        return pairwise_loss(scores[0::2], scores[1::2], denominator=4)

    own, num_real = share(model, packs)
    row = trainer.update(without_fillers(map(loss, own), num_real))
    save(path, (first_gradient(trainer), row))


@pytest.mark.parametrize("update", [grpo_update, sft_update, reward_model_update])
def test_the_gradient_is_that_of_one_process_with_the_model_whole(folder, tmp_path, update):
    """At several budgets, of which the largest leaves one micro-batch, and the second rank with a filler."""
    for budget in BUDGETS:
        update(folder, tmp_path / f"alone-{budget}.pt", budget=budget, shard=False)
    on_ranks(tmp_path / "ranks", _at_all_budgets, folder, tmp_path, update)
    first, _ = torch.load(tmp_path / f"alone-{BUDGETS[0]}.pt")
    model, _ = load_tiny(folder)
    assert float(first.abs().max()) > 1e-2
    for budget in BUDGETS:
        expected, expected_row = torch.load(tmp_path / f"alone-{budget}.pt")
        found, row = torch.load(tmp_path / f"sharded-{budget}.pt")
        assert_same(expected, first, model)
        assert_same(found, first, model)
        assert row == same_numbers(expected_row, model)


def _at_all_budgets(folder, tmp_path, update):
    for budget in BUDGETS:
        update(folder, tmp_path / f"sharded-{budget}.pt", budget=budget, shard=True)


def test_fillers_make_the_numbers_of_passes_even_and_come_last(folder, tmp_path):
    assert share(load_tiny(folder)[0], "abc") == (["a", "b", "c"], 3)
    on_ranks(tmp_path, _check_shares, folder)


def _check_shares(folder):
    whole_model, model = load_tiny(folder)[0], sharded(load_tiny(folder)[0])
    rank = collectives.rank()
    assert share(whole_model, "abc") == [(["a", "c"], 2), (["b"], 1)][rank]
    assert share(model, "abc") == [(["a", "c"], 2), (["b", "c"], 1)][rank]
    assert share(model, "a") == [(["a"], 1), (["a"], 0)][rank]
    assert share(model, "ab") == [(["a"], 1), (["b"], 1)][rank]
    assert share(model, "") == ([], 0)


def test_every_rank_holds_its_part_and_gathers_the_whole(folder, tmp_path):
    on_ranks(tmp_path, _check_parts, folder)


def _check_parts(folder):
    plain, model = load_tiny(folder)[0], sharded(load_tiny(folder)[0])
    num_own = sum(p.to_local().numel() for p in model.parameters())
    total = sum(p.numel() for p in plain.parameters())
    assert num_own == pytest.approx(total / 2, rel=0.01)
    with torch.inference_mode():  # as samplers load them
        named = dict(whole_weights(model))
    assert named.keys() == plain.state_dict().keys()  # a tied head too: vLLM keeps the old one else
    for name, parameter in plain.named_parameters():
        assert torch.equal(named[name], parameter)
    # a pass through the model, without and with gradient, leaves no more than the part behind
    with torch.no_grad():
        _logprobs(model)
    _logprobs(model).sum().backward()
    trainer = Trainer(model, OptimizerConfig(), total_steps=1)
    assert sum(whole(p.grad).numel() == p.numel() for p in model.parameters()) == len(
        list(model.parameters())
    )
    assert sum(p.to_local().numel() for p in model.parameters()) == num_own
    trainer.update([sft_rows(model, range(8))])
    for state in trainer.state_dict()["optimizer"]["state"].values():
        assert state["exp_avg"].to_local().numel() <= (state["exp_avg"].numel() + 1) // 2 + 64


def _logprobs(model):
    return completion_logprobs(model, collate(PROMPTS, COMPLETIONS, 1))[0]


def test_gradients_are_clipped_by_the_norm_of_all_parts(folder, tmp_path):
    model = load_tiny(folder)[0]
    sft_rows(model, range(8)).loss.backward()
    norm = clip_gradients(list(model.parameters()), 0.1)
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert norm > 0.2
    on_ranks(tmp_path, _check_clipping, folder, norm, gradient)


def _check_clipping(folder, norm, gradient):
    model = sharded(load_tiny(folder)[0])
    own, _ = share(model, [range(4), range(4, 8)])
    sft_rows(model, own[0]).loss.backward()
    clipped = clip_gradients(list(model.parameters()), 0.1)
    assert clipped == pytest.approx(norm, rel=relative_error(model))
    found = torch.cat([whole(p.grad).flatten() for p in model.parameters()])
    assert_same(found, gradient, model)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sharded_model_is_saved_as_the_plain_folder(tmp_path, family):
    model = tiny_model(tmp_path / "model", family, tied=family != "llama")
    plain, tokenizer = load_tiny(model)
    save_model(plain, tokenizer, tmp_path / "plain")
    on_ranks(tmp_path / "ranks", _save_sharded, model, tmp_path / "sharded")
    names = sorted(path.name for path in (tmp_path / "plain").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "sharded").iterdir())
    for name in names:
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "sharded" / name).read_bytes(), name


def _save_sharded(model, folder):
    loaded = sharded(load_tiny(model)[0])
    kept = weights_to_save(loaded, "float32")
    if collectives.is_main():
        save_model(loaded, load_tokenizer(str(model)), folder, weights=kept)
    else:
        assert kept == {}


def updates(trainer, num):
    for _ in range(num):
        own, num_real = share(trainer.model, packs_of(40))
        trainer.update(without_fillers((sft_rows(trainer.model, pack) for pack in own), num_real))


def made_trainer(folder, *, shard):
    model = load_tiny(folder)[0]
    config = OptimizerConfig(learning_rate=0.1)
    trainer = Trainer(sharded(model) if shard else model, config, total_steps=4)
    smooth_adam(trainer._optimizer)
    return trainer


def train_and_save(folder, checkpoints, path, *, shard=True):
    """Two updates, a checkpoint, two more; the weights at the end."""
    trainer = made_trainer(folder, shard=shard)
    updates(trainer, 2)
    save_checkpoint(checkpoints, {"step": 2, "row": {"loss": 0.5}, "trainer": trainer.state_dict()})
    updates(trainer, 2)
    save(path, weights(trainer.model))


def resume(folder, checkpoints, path, *, shard=True):
    """The two updates after the checkpoint, by trainers that know nothing else."""
    trainer = made_trainer(folder, shard=shard)
    found = latest_checkpoint(checkpoints)
    state = load_checkpoint(found, mesh=mesh_of(trainer.model))
    assert (found.name, state["row"]) == ("step-00000002", {"loss": 0.5})
    trainer.load_state_dict(state["trainer"])
    assert trainer.num_updates == 2
    updates(trainer, 2)
    save(path, weights(trainer.model))


def test_a_checkpoint_is_gone_on_from_to_the_bit_and_cut_anew_for_other_ranks(folder, tmp_path):
    checkpoints = tmp_path / "checkpoints"
    on_ranks(tmp_path / "ranks", train_and_save, folder, checkpoints, tmp_path / "whole.pt")
    expected = torch.load(tmp_path / "whole.pt")
    assert len(list((checkpoints / "step-00000002" / "shards").glob("*.distcp"))) == 2
    on_ranks(tmp_path / "again", resume, folder, checkpoints, tmp_path / "again.pt")
    for name, tensor in torch.load(tmp_path / "again.pt").items():
        assert torch.equal(tensor, expected[name])
    # three ranks, and one process that holds everything
    on_ranks(tmp_path / "three", resume, folder, checkpoints, tmp_path / "three.pt", num_ranks=3)
    resume(folder, checkpoints, tmp_path / "one.pt", shard=False)
    for name in ("three.pt", "one.pt"):
        for key, tensor in torch.load(tmp_path / name).items():
            assert_same(tensor, expected[key], load_tiny(folder)[0], scale=1.0)


def test_a_checkpoint_of_a_whole_model_can_be_sharded(folder, tmp_path):
    checkpoints = tmp_path / "checkpoints"
    train_and_save(folder, checkpoints, tmp_path / "whole.pt", shard=False)
    on_ranks(tmp_path / "ranks", resume, folder, checkpoints, tmp_path / "sharded.pt")
    expected = torch.load(tmp_path / "whole.pt")
    for name, tensor in torch.load(tmp_path / "sharded.pt").items():
        assert_same(tensor, expected[name], load_tiny(folder)[0], scale=1.0)


def test_a_damaged_part_makes_all_ranks_pass_over_the_checkpoint(folder, tmp_path):
    on_ranks(tmp_path / "ranks", train_and_save, folder, tmp_path / "checkpoints", tmp_path / "whole.pt")
    part = next((tmp_path / "checkpoints" / "step-00000002" / "shards").glob("__1_*"))
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    on_ranks(tmp_path / "again", _check_none, tmp_path / "checkpoints")


def _check_none(checkpoints):
    assert latest_checkpoint(checkpoints) is None


def test_in_bfloat16_masters_stay_float32_and_small_updates_are_not_lost(folder, tmp_path):
    on_ranks(tmp_path, _check_bfloat16, folder)


def _check_bfloat16(folder):
    plain = load_tiny(folder)[0]
    model = sharded(load_tiny(folder)[0], dtype="bfloat16")
    ours, exact = _logprobs(model), _logprobs(plain)
    assert 1e-4 < (ours - exact).abs().max() < 0.2  # rounded, and not more
    trainer = Trainer(model, OptimizerConfig(learning_rate=1e-6), total_steps=1)
    before = weights(model)
    trainer.update([sft_rows(model, range(8))])
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    moved = torch.cat([(tensor - before[name]).abs().flatten() for name, tensor in weights(model).items()])
    # of a weight near 0.1 bfloat16 knows steps of 5e-4
    assert float((moved > 0).float().mean()) > 0.5
    assert float(moved.max()) < 1.1e-6


def test_in_bfloat16_the_shards_are_the_only_masters_and_what_is_saved_is_rounded(folder, tmp_path):
    on_ranks(tmp_path / "ranks", _save_bfloat16, folder, tmp_path)
    exact = torch.load(tmp_path / "masters.pt")
    model = load_model(str(tmp_path / "model"), dtype="bfloat16")
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, exact[name].bfloat16()), name
    config = json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))
    assert config["dtype"] == "bfloat16"


def _save_bfloat16(folder, path):
    model = sharded(load_tiny(folder)[0], dtype="bfloat16")
    trainer = Trainer(model, OptimizerConfig(learning_rate=1e-3), total_steps=1)
    assert len(trainer._masters) == 0
    updates(trainer, 1)
    save(path / "masters.pt", weights(model))
    trainer.save(load_tokenizer(str(folder)), path, dtype="bfloat16")


def test_a_bfloat16_checkpoint_of_a_whole_model_is_sharded_masters_to_the_bit(folder, tmp_path):
    """Of a model whose embeddings and head are one weight, which its checkpoint names once."""
    trainer = Trainer(load_tiny(folder)[0].bfloat16(), OptimizerConfig(learning_rate=1e-3), total_steps=4)
    assert len(trainer._masters) == len(list(trainer.model.parameters()))
    updates(trainer, 2)
    save_checkpoint(tmp_path / "checkpoints", {"step": 2, "trainer": trainer.state_dict()})
    on_ranks(
        tmp_path / "ranks", _check_masters, folder, tmp_path / "checkpoints", trainer.state_dict()["model"]
    )


def _check_masters(folder, checkpoints, masters):
    model = sharded(load_tiny(folder)[0], dtype="bfloat16")
    trainer = Trainer(model, OptimizerConfig(learning_rate=1e-3), total_steps=4)
    found = latest_checkpoint(checkpoints)
    trainer.load_state_dict(load_checkpoint(found, mesh=mesh_of(model))["trainer"])
    for name, tensor in weights(model).items():
        assert torch.equal(tensor, masters[name]), name
    updates(trainer, 1)


def test_a_sharded_bfloat16_reward_model_scores_in_float32_and_keeps_its_head(folder, tmp_path):
    on_ranks(tmp_path / "ranks", _save_scorer, folder, tmp_path)
    saved = load_file(tmp_path / "model" / "model.safetensors")
    assert {tensor.dtype for name, tensor in saved.items() if name != "score.weight"} == {torch.bfloat16}
    assert saved["score.weight"].dtype == torch.float32
    assert torch.equal(saved["score.weight"], torch.load(tmp_path / "head.pt"))


def _save_scorer(folder, path):
    model = load_reward_model(str(folder), seed=5)
    exact = score_rows(model, COMPLETIONS, 1)
    scores = score_rows(sharded(model, dtype="bfloat16"), COMPLETIONS, 1)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, exact, rtol=0.05, atol=0.05)
    assert not torch.equal(scores, scores.bfloat16().float())  # finer than bfloat16 could say
    trainer = Trainer(model, OptimizerConfig(learning_rate=1e-3), total_steps=1)

    def loss(pack):
        rows = score_rows(model, [PROMPTS[i] + COMPLETIONS[i] for i in pack], 1)
        return pairwise_loss(rows[0::2], rows[1::2], denominator=2)

    own, _ = share(model, [range(2), range(2, 4)])
    head = whole(model.score.weight.detach()).clone()
    assert trainer.update(map(loss, own))["update/skipped"] == 0
    assert not torch.equal(whole(model.score.weight.detach()), head)
    save(path / "head.pt", whole(model.score.weight.detach()))
    trainer.save(load_tokenizer(str(folder)), path, dtype="bfloat16")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_layers_of_a_sharded_model_that_run_again_give_the_same_gradients(folder, tmp_path, dtype):
    on_ranks(tmp_path, _check_running_again, folder, dtype)


def _check_running_again(folder, dtype):
    found = []
    for again in (False, True):
        model = sharded(load_tiny(folder)[0], dtype=dtype)
        trainer = Trainer(model, OptimizerConfig(), total_steps=1, gradient_checkpointing=again)
        updates(trainer, 1)
        found.append(first_gradient(trainer))
        # on packed rows, whose layout passes through the casts of every layer
        shard = functools.partial(sharded, dtype=dtype)
        made, settings = learner(load_tiny(folder)[0], shard=shard, gradient_checkpointing=again)
        assert made._batching is SHARED_PROMPTS
        train_step(made, 1, GROUPS, advantages_of(GROUPS, settings))
        found.append(first_gradient(made.trainer))
    for plain, run_again in zip(found[:2], found[2:], strict=True):
        assert float(plain.abs().max()) > 1e-2
        assert torch.equal(plain, run_again)


def test_float16_is_refused(folder):
    with pytest.raises(ModelError, match=r"float16.*use float32 or bfloat16"):
        shard_model(load_tiny(folder)[0], device="cpu", dtype="float16")
