"""What has to hold for a model of any family, as numbers, for tests and `benchmarks/architectures.py`."""

import json
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from r1kit.model.loading import load_model, load_tokenizer
from r1kit.model.logprobs import collate, completion_logprobs
from r1kit.model.lora import LoraConfig
from r1kit.model.packing import PADDED, batching_for
from r1kit.model.scorers import load_reward_model
from r1kit.sampling.engine import SampleRequest, SamplingParams, sample_all
from r1kit.sampling.local import make_engine
from r1kit.training.losses import LossParts
from r1kit.training.optim import OptimizerConfig
from r1kit.training.trainer import Trainer

Rows = list[tuple[int, ...]]
PAD = 1


def rows_of(seed: int, lengths: tuple[int, ...]) -> Rows:
    """Random token ids."""
    generator = torch.Generator().manual_seed(seed)
    return [tuple(torch.randint(2, 1000, (n,), generator=generator).tolist()) for n in lengths]


def sampler_error(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> float:
    """The largest difference between the sampler's logprobs and the model's own, each row alone.

    Prompts of several lengths, some beyond the window, at two temperatures, rows that end at different steps:
    wrong positions, masks or caches show here.
    """
    prompts = rows_of(1, (7, 20, 33, 33, 7, 40))
    heats = [1.0, 0.6] * 3
    requests = [
        SampleRequest(i, prompt, SamplingParams(4 + 4 * i, temperature=heat), seed=i)
        for i, (prompt, heat) in enumerate(zip(prompts, heats, strict=True))
    ]
    worst = 0.0
    for request, sampled in zip(requests, sample_all(make_engine(model, tokenizer), requests), strict=True):
        ids, start = (
            torch.tensor([request.prompt_token_ids + sampled.token_ids]),
            len(request.prompt_token_ids),
        )
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[0, start - 1 : -1].float()
        own = (logits / request.params.temperature).log_softmax(-1).gather(1, ids[0, start:, None])[:, 0]
        worst = max(worst, float((own - torch.tensor(sampled.sampler_logprobs)).abs().max()))
    return worst


def trainer_error(model: PreTrainedModel) -> float:
    """The largest difference of the trainer's logprobs, padded and packed, from those of each row alone."""
    prompts = rows_of(2, (7, 20, 33, 40, 5, 5))
    prompts[5] = prompts[4]  # shared, where rows are packed
    completions = rows_of(3, (5, 12, 3, 20, 8, 9))
    worst = 0.0
    for batching in (PADDED, batching_for(model, shared=True), batching_for(model, shared=False)):
        with torch.no_grad():
            together, _ = completion_logprobs(
                model, batching.collate(prompts, completions, PAD), temperature=0.7
            )
        for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            ids = torch.tensor([prompt + completion])
            with torch.no_grad():
                logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float() / 0.7
            own = logits.log_softmax(-1).gather(1, ids[0, len(prompt) :, None])[:, 0]
            worst = max(worst, float((own - together[row, : len(completion)]).abs().max()))
    return worst


def saved_error(source: Path, work_dir: Path, lora: LoraConfig | None) -> float:
    """Two updates, saved and read again: the largest difference of logits from those of the trained model."""
    model, tokenizer = load_model(str(source)), load_tokenizer(str(source))
    trainer = Trainer(model, OptimizerConfig(learning_rate=1e-2), total_steps=2, lora=lora)
    batch = collate([(5, 6, 7), (8, 9, 10, 11, 12)], [(20, 30, 40, 0), (50, 60, 70)], PAD)
    before = {name: weight.clone() for name, weight in trainer.weights()}
    for _ in range(2):
        trainer.update([LossParts(-completion_logprobs(model, batch)[0].sum() / 7, {})])
    ids = torch.tensor(rows_of(4, (30,)))
    with torch.no_grad():
        trained = model(input_ids=ids, use_cache=False).logits
    sent = {name: weight.clone() for name, weight in trainer.weights()}
    assert any(not torch.equal(sent[name], before[name]) for name in sent), "nothing was trained"
    trainer.save(tokenizer, work_dir, dtype="float32")
    again = load_model(str(work_dir / "model"))
    for name, weight in again.state_dict().items():
        assert torch.equal(weight, sent[name]), f"{name}: what was saved is not what a sampler was sent"
    with torch.no_grad():
        return float((trained - again(input_ids=ids, use_cache=False).logits).abs().max())


def scorer_error(source: Path) -> float:
    """A reward model's scores of padded rows against each row alone, the end token read."""
    model = load_reward_model(str(source))
    rows = [(5, 6, 7, 0), (8, 9, 10, 11, 12, 0)]
    pad = model.config.get_text_config().pad_token_id
    padded = torch.tensor([[*row, *[pad] * (6 - len(row))] for row in rows])
    with torch.no_grad():
        together = model(input_ids=padded, attention_mask=(padded != pad).long()).logits[:, 0]
        alone = torch.cat([model(input_ids=torch.tensor([row])).logits[:, 0] for row in rows])
    return float((together - alone).abs().max())


RECIPE = """
[run]
name = "architecture"
[model]
base = "model"
[problems.train]
source = "tinyworld"
num_problems = 20
[problems.test]
source = "tinyworld"
split = "held_out"
num_problems = 2

[stages.warm]
kind = "sft"
model = "base"
data = "sft.jsonl"
epochs = 1
tokens_per_batch = 1000

[stages.zero]
kind = "grpo"
model = "base"
prompt_style = "zero"
problems = { train = 1.0 }
rewards = { random = 1.0 }
steps = 1
problems_per_step = 2
group_size = 4
mini_batches = 1
max_new_tokens = 12
kl_coef = 0.001
max_resample_waves = 0

[stages.chat]
kind = "grpo"
model = "warm"
prompt_style = "chat"
problems = { train = 1.0 }
rewards = { random = 1.0 }
steps = 1
problems_per_step = 2
group_size = 4
mini_batches = 1
max_new_tokens = 12
max_resample_waves = 0
temperature = 0.7
ADAPTER
SCORER
[eval]
problems = ["test"]
samples = 2
max_new_tokens = 8
"""
_ADAPTER = "lora = { rank = 2, alpha = 4 }"
_SCORER = """
[stages.helpful]
kind = "reward_model"
objective = "pairwise"
model = "warm"
data = "pairs.jsonl"
held_out_frac = 0.0
"""


def write_recipe(folder: Path, *, adapter: bool, scorer: bool) -> Path:
    """A recipe of all kinds of training in `folder`, for the model in `folder / "model"`."""
    question = [{"role": "user", "content": "What is 9 + 4?"}]
    right, wrong = ("<think>\n9 + 4 is 13.\n</think>\n\nThe answer is 13.", "I don't know.")
    sft = {"messages": question, "response": right, "style": "chat"}
    pair = {"messages": question, "chosen": right, "rejected": wrong}
    (folder / "sft.jsonl").write_text(json.dumps(sft) + "\n", encoding="utf-8")
    (folder / "pairs.jsonl").write_text(json.dumps(pair) + "\n", encoding="utf-8")
    text = RECIPE.replace("ADAPTER", _ADAPTER if adapter else "").replace("SCORER", _SCORER if scorer else "")
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path
