"""How fast a model is updated here: a few updates by the stages' own code, on rows of made-up tokens.

What an update costs does not depend on which tokens it trains on, only on how many, in rows of which lengths.
An update of few rows and one of as many as time allows tell what an update costs by itself (clipping,
optimizer, the exchange of gradients between ranks) and what each token in it costs.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from transformers import PreTrainedModel

from r1kit.grpo import GrpoConfig
from r1kit.grpo.learner import Learner, TrainedRollout
from r1kit.model.loading import load_model, num_embeddings
from r1kit.model.logprobs import completion_logprobs, pack_by_tokens
from r1kit.model.packing import batching_for
from r1kit.model.scorers import load_reward_model, load_scoring_tokenizer
from r1kit.pipeline.planning.work import Updates
from r1kit.preferences.reward_model import RewardModelConfig, score_rows
from r1kit.ranks import collectives
from r1kit.ranks.sharding import shard_model, share
from r1kit.sft import SftConfig
from r1kit.stage import StageContext
from r1kit.training.losses import LossParts, next_token_loss, pairwise_loss, pointwise_loss, without_fillers
from r1kit.training.trainer import Trainer
from r1kit.types import Completion, Problem, Rollout

# Of forward and backward pass together, what a forward pass alone takes: 2 of 6 operations a weight.
_FORWARD_FRAC = 1 / 3
_SMALLEST = (2, 8, 2)  # rows, their tokens, those of the prompt: nearly all of it is the update by itself
_FEW_ROWS, _FEW_TOKENS = 4, 32  # of a first try
_MOST_REPEATS = 6

Update = Callable[[int, int, int], int]
"""Does an update of rows x tokens behind prompts of a given length; returns the tokens that went through."""


@dataclass(frozen=True, slots=True)
class UpdatePace:
    """Seconds of an update by itself, and of each token in it, by all ranks together.

    `forwards`: the passes without gradient that were measured with it.
    """

    update_seconds: float
    token_seconds: float
    forwards: float = 0.0

    @property
    def forward_seconds(self) -> float:
        """Of a token in a pass without gradient, by all ranks together."""
        return self.token_seconds * _FORWARD_FRAC / (1 + _FORWARD_FRAC * self.forwards)

    def seconds(self, piece: Updates) -> float:
        """The time of these updates."""
        by_token = self.token_seconds + (piece.forwards - self.forwards) * self.forward_seconds
        return piece.times * (self.update_seconds + piece.tokens_per_update * by_token)


def measure_updates(context: StageContext, path: str, piece: Updates, *, seconds: float) -> UpdatePace:
    """Do updates like the piece's for about that many seconds. Raises `UserError` for the stage's faults."""
    update = _updater(context, path, piece)
    config = piece.config
    # the reference's logprobs are taken again in each update
    forwards = float(isinstance(config, GrpoConfig) and config.kl_coef > 0)
    rows, tokens = max(1, round(piece.rows)), max(2, round(min(piece.tokens, piece.limit)))
    prompt_tokens = max(2, round(piece.prompt_tokens or 2))
    _timed(update, *_SMALLEST)  # the first one also allocates: gradients, the optimizer's state
    small, small_tokens = _timed(update, *_SMALLEST)
    few = min(rows, _FEW_ROWS), min(tokens, _FEW_TOKENS), prompt_tokens
    spent, num_tokens = _timed(update, *few)
    by_token = max(1e-9, spent - small) / max(1, num_tokens - small_tokens)
    affordable = int(rows * seconds / 3 / (by_token * piece.tokens_per_update))
    if affordable < few[0]:
        return UpdatePace(*line_through((small, small_tokens), (spent, num_tokens)), forwards)
    shape = min(rows, affordable), tokens, prompt_tokens
    taken, _ = _timed(update, *shape)  # its shapes are made ready once
    spent += taken
    bigs, smalls = list[float](), [small]
    while not bigs or (spent < seconds * 2 / 3 and len(bigs) < _MOST_REPEATS):  # in turn, as machines vary
        big, num_tokens = _timed(update, *shape)
        small, _ = _timed(update, *_SMALLEST)
        bigs.append(big)
        smalls.append(small)
        spent += big + small
    points = (sum(smalls) / len(smalls), small_tokens), (sum(bigs) / len(bigs), num_tokens)
    return UpdatePace(*line_through(*points), forwards)


def line_through(small: tuple[float, int], big: tuple[float, int]) -> tuple[float, float]:
    """Seconds by update and by token from two updates of (seconds, tokens); neither is below 0."""
    (small_seconds, small_tokens), (seconds, tokens) = small, big
    by_token = (seconds - small_seconds) / (tokens - small_tokens) if tokens > small_tokens else 0.0
    fixed = seconds - by_token * tokens
    if by_token <= 0 or fixed < 0:
        return 0.0, seconds / tokens
    return fixed, by_token


def _timed(update: Update, rows: int, tokens: int, prompt_tokens: int) -> tuple[float, int]:
    """Seconds of the slowest rank for one update, and the tokens in it."""
    collectives.barrier()
    started = time.perf_counter()
    num_tokens = update(rows, tokens, prompt_tokens)
    if torch.cuda.is_available():  # whose optimizer works on after its call has returned
        torch.cuda.synchronize()
    return max(collectives.gather(time.perf_counter() - started)), num_tokens


def _updater(context: StageContext, path: str, piece: Updates) -> Update:
    config = piece.config
    if isinstance(config, GrpoConfig):
        return _grpo(context, path, config, piece)
    if isinstance(config, SftConfig):
        return _sft(context, path, config)
    return _reward_model(context, path, config)


def _grpo(context: StageContext, path: str, config: GrpoConfig, piece: Updates) -> Update:
    policy = load_model(path, **context.loading)
    shard = partial(shard_model, device=context.device, dtype=context.dtype) if context.shard else None
    one = config.model_copy(update={"mini_batches": 1, "inner_epochs": 1})
    learner = Learner(policy, one, pad_id=0, seed=0, shard=shard)
    group_size = max(1, round(piece.rows / max(piece.prompts, 1e-9)))
    vocab = num_embeddings(policy.config)

    def update(rows: int, tokens: int, prompt_tokens: int) -> int:
        random_tokens = random.Random(0)
        made = _made_rows(rows, group_size, prompt_tokens, tokens, vocab, random_tokens)
        for mini_batch in learner.mini_batches(1, made):
            learner.update(mini_batch)
        prompts = {row.rollout.prompt_token_ids for row in made}
        return sum(map(len, prompts)) + rows * tokens

    return update


def _made_rows(
    num: int, group_size: int, prompt_tokens: int, tokens: int, vocab: int, tokens_from: random.Random
) -> list[TrainedRollout]:
    """Rollouts of made-up tokens, `group_size` per prompt, half of them good and half of them bad."""
    problem = Problem(id="", kind="math", messages=({"role": "user", "content": ""},))
    rows: list[TrainedRollout] = []
    prompt: tuple[int, ...] = ()
    for i in range(num):
        if i % group_size == 0:
            prompt = tuple(tokens_from.choices(range(vocab), k=prompt_tokens))
        ids = tuple(tokens_from.choices(range(vocab), k=tokens))
        completion = Completion(ids, (-1.0,) * tokens, "", "stop", 0)
        rows.append(
            TrainedRollout(
                Rollout(problem, 1, i // group_size, i, i, prompt, completion), 1.0 if i % 2 else -1.0
            )
        )
    return rows


def _trainer(context: StageContext, model: PreTrainedModel, config: SftConfig | RewardModelConfig) -> Trainer:
    if context.shard:
        shard_model(model, device=context.device, dtype=context.dtype)
    return Trainer(
        model,
        config.optimizer,
        total_steps=1000,
        lora=config.lora,
        gradient_checkpointing=config.gradient_checkpointing,
    )


def _sft(context: StageContext, path: str, config: SftConfig) -> Update:
    trainer = _trainer(context, load_model(path, **context.loading), config)
    vocab = num_embeddings(trainer.model.config)
    batching = batching_for(trainer.model, shared=False)

    def update(rows: int, tokens: int, prompt_tokens: int) -> int:
        random_tokens = random.Random(0)
        # a quarter of an example is its prompt, which is read and not trained
        split = max(1, tokens // 4)
        texts = [random_tokens.choices(range(vocab), k=tokens) for _ in range(rows)]
        prompts, responses = [text[:split] for text in texts], [text[split:] for text in texts]
        budget = collectives.even_budget(rows * tokens, config.tokens_per_micro_batch)

        def loss(pack: list[int]) -> LossParts:
            chosen = [prompts[i] for i in pack], [responses[i] for i in pack]
            micro_batch = batching.collate(*chosen, 0).to(trainer.device)
            logprobs_BT, _ = completion_logprobs(trainer.model, micro_batch)
            return next_token_loss(logprobs_BT, micro_batch.loss_mask_BT, denominator=rows * tokens)

        own, num_real = share(trainer.model, batching.pack(prompts, responses, budget))
        trainer.update(without_fillers(map(loss, own), num_real))
        return rows * tokens

    return update


def _reward_model(context: StageContext, path: str, config: RewardModelConfig) -> Update:
    model = load_reward_model(path, **context.loading, seed=0)
    pad_id = load_scoring_tokenizer(path).pad_token_id
    trainer = _trainer(context, model, config)
    vocab = num_embeddings(model.config)
    sides = 2 if config.objective == "pairwise" else 1

    def update(rows: int, tokens: int, prompt_tokens: int) -> int:
        random_tokens = random.Random(0)
        num = max(1, rows // sides)
        texts = [random_tokens.choices(range(vocab), k=tokens) for _ in range(sides * num)]
        lengths = [sides * tokens] * num
        packs = pack_by_tokens(lengths, collectives.even_budget(sum(lengths), config.tokens_per_micro_batch))

        def loss(pack: list[int]) -> LossParts:
            chosen = [texts[sides * i + side] for i in pack for side in range(sides)]
            scores = score_rows(trainer.model, chosen, int(pad_id or 0))
            if sides == 2:
                return pairwise_loss(scores[0::2], scores[1::2], denominator=num)
            return pointwise_loss(scores, scores.detach().new_ones(len(scores)), denominator=num)

        own, num_real = share(trainer.model, packs)
        trainer.update(without_fillers(map(loss, own), num_real))
        return sum(lengths)

    return update
