"""bfloat16 to compute with, float32 to learn with: small updates stay, gradients add up, state is exact."""

import functools

import pytest
import torch

from r1kit.model.loading import load_model
from r1kit.model.logprobs import collate, completion_logprobs
from r1kit.model.precision import MasterWeights, compute_dtype
from r1kit.model.scorers import load_reward_model
from r1kit.sampling.local import make_engine
from r1kit.training.losses import LossParts
from r1kit.training.trainer import OptimizerConfig, Trainer
from tests.bounds import sum_error
from tests.tiny_models import load_tiny, tiny_model
from tests.training.test_trainer import COMPLETIONS, PROMPTS, flat_weights, grpo_rows, packs_of, sft_rows

pytestmark = pytest.mark.numerical


def one_weight(value: float, dtype: torch.dtype, **config) -> tuple[torch.nn.Linear, Trainer]:
    model = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(value)
    model.to(dtype)
    return model, Trainer(model, OptimizerConfig(**({"max_grad_norm": 1e9} | config)), total_steps=100)


def summed(model: torch.nn.Module):
    """The weight times the micro-batch's number: that number is the gradient."""
    return lambda x: LossParts(model(torch.tensor([x], dtype=model.weight.dtype)).sum().float(), {})


def test_an_update_too_small_for_bfloat16_is_not_lost():
    # at 1.0 the next smaller bfloat16 is 1 - 2^-8 = 0.99609, and 1 - 1e-4 rounds back to 1
    assert float(torch.tensor(1.0 - 1e-4, dtype=torch.bfloat16)) == 1.0
    model, trainer = one_weight(1.0, torch.bfloat16, learning_rate=1e-4)
    seen = []
    for _ in range(40):
        trainer.update(map(summed(model), [1.0]))
        seen.append(float(model.weight.detach()))
    # Adam takes 1e-4 a step: after 19 steps 0.9981, nearer to 1; after 20 0.9980 = 1 - 2^-9, the middle
    assert seen[:19] == [1.0] * 19
    assert seen[24] == seen[39] == 1 - 2**-8
    assert float(trainer._parameters[0].detach()) == pytest.approx(1 - 40e-4, abs=sum_error(40, 1.0))
    # what it would be without masters: nothing
    pure = torch.nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    optimizer = torch.optim.AdamW([pure], lr=1e-4, weight_decay=0.0)
    for _ in range(40):
        pure.grad = torch.ones_like(pure)
        optimizer.step()
    assert float(pure.detach()) == 1.0


def test_gradients_of_micro_batches_add_up_in_float32():
    # in bfloat16 256 + 1 = 256, eight times over; in float32 it is 264
    model, trainer = one_weight(1.0, torch.bfloat16)
    row = trainer.update(map(summed(model), [256.0, *[1.0] * 8]))
    assert row["grad_norm"] == 264.0
    assert model.weight.grad is None


def test_float32_weights_need_no_master():
    model, trainer = one_weight(1.0, torch.float32)
    assert trainer._parameters[0] is model.weight
    mixed = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2).bfloat16())
    masters = MasterWeights(list(mixed.parameters()))
    assert len(masters) == 2
    assert masters.parameters[0] is mixed[0].weight
    assert masters.parameters[2] is not mixed[1].weight


def test_loss_and_logprobs_are_float32_and_close_to_those_of_float32_weights(tmp_path):
    folder = str(tiny_model(tmp_path))
    batch = collate(PROMPTS, COMPLETIONS, pad_id=1)
    half, full = load_model(folder, dtype="bfloat16"), load_model(folder)
    logprobs, entropy = completion_logprobs(half, batch, with_entropy=True)
    assert logprobs.dtype == entropy.dtype == torch.float32
    exact, _ = completion_logprobs(full, batch)
    torch.testing.assert_close(logprobs, exact, rtol=0.02, atol=0.05)
    assert sft_rows(half, range(8)).loss.dtype == torch.float32


def test_the_sampler_gets_what_the_policy_computes_with(tmp_path):
    tiny_model(tmp_path)
    model = load_model(str(tmp_path), dtype="bfloat16")
    engine = make_engine(model, load_tiny(tmp_path)[1])
    assert engine._weights.dtype == torch.bfloat16
    trainer = Trainer(model, OptimizerConfig(learning_rate=1e-3), total_steps=5)
    trainer.update(map(functools.partial(grpo_rows, model), packs_of(25)))
    engine.load_weights(trainer.weights(), 1)
    policy = model.get_input_embeddings().weight
    assert torch.equal(engine._weights.embed, policy)
    # the rounded masters, one matrix for embedding and head
    (master,) = [m for p, m in trainer._masters._masters.items() if p is policy]
    assert torch.equal(master.bfloat16(), policy)
    assert not torch.equal(master, policy.float())
    assert model.get_output_embeddings().weight is policy


def test_a_checkpoint_has_the_masters_and_goes_on_to_the_bit(tmp_path):
    tiny_model(tmp_path)

    def run(trainer: Trainer, num: int) -> Trainer:
        for _ in range(num):
            trainer.update(map(functools.partial(sft_rows, trainer.model), packs_of(25)))
        return trainer

    def fresh() -> Trainer:
        model = load_model(str(tmp_path), dtype="bfloat16")
        return Trainer(model, OptimizerConfig(learning_rate=1e-3), total_steps=9)

    whole = run(fresh(), 2)
    torch.save(whole.state_dict(), tmp_path / "state.pt")
    run(whole, 2)
    resumed = fresh()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert {tensor.dtype for tensor in state["model"].values()} == {torch.float32}
    resumed.load_state_dict(state)
    run(resumed, 2)
    assert torch.equal(flat_weights(whole), flat_weights(resumed))
    assert all(map(torch.equal, whole._parameters, resumed._parameters))


def test_a_bfloat16_reward_model_scores_in_float32(tmp_path):
    model = load_reward_model(str(tiny_model(tmp_path)), dtype="bfloat16", seed=1)
    scores = model(input_ids=torch.arange(20, 40)[None], use_cache=False).logits
    assert scores.dtype == torch.float32
    assert model.model.embed_tokens.weight.dtype == torch.bfloat16
    exact = load_reward_model(str(tmp_path), seed=1)(input_ids=torch.arange(20, 40)[None]).logits
    assert float(scores) == pytest.approx(float(exact), abs=0.05)
    # finer than bfloat16 could say
    assert float(scores) != float(scores.bfloat16())


@pytest.mark.parametrize(
    ("precision", "device", "dtype"),
    [
        ("auto", "cpu", "float32"),
        ("auto", "cuda:1", "bfloat16"),
        ("float32", "cuda", "float32"),
        ("bf16-mixed", "cpu", "bfloat16"),
    ],
)
def test_the_precision_of_a_recipe_and_the_type_it_computes_in(precision, device, dtype):
    assert compute_dtype(precision, device) == dtype


@pytest.mark.parametrize(
    ("precision", "elements", "native", "dtype"),
    [
        ("auto", 576 * 1536, True, "bfloat16"),
        ("auto", 576 * 1536, False, "float32"),
        ("auto", 128 * 384, True, "float32"),  # tinyworld
        ("float32", 576 * 1536, True, "float32"),
        ("bf16-mixed", 0, False, "bfloat16"),
    ],
)
def test_on_a_cpu_auto_asks_for_a_processor_and_a_model_that_gain(
    monkeypatch, precision, elements, native, dtype
):
    monkeypatch.setattr("r1kit.model.precision.multiplies_bfloat16", lambda: native)
    assert compute_dtype(precision, "cpu", mlp_elements=elements) == dtype
