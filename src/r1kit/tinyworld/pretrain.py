"""Pretraining of tinyworld's base models: a stock Qwen3 of under a million parameters, on two gloo ranks.

Two ranks of one thread each are a part of the recipe and do not depend on the machine, so the result is the
same to the bit on one machine under any load (TINYWORLD.md: two OpenMP threads collapse under load). Not
here: the corpus (`corpus`), training of the R1 stages (`r1kit.training.trainer`).
"""

import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from r1kit.tinyworld.muon import Muon

NUM_RANKS = 2
ROW_TOKENS = 512  # the length of a few-shot prompt
ROWS_PER_RANK = 2  # small updates: many of them matter more than their size
WARMUP_UPDATES = 50

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BaseSize:
    """The size of a base model and of its training. TINYWORLD.md has the measurements of learning rates."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    num_tokens: int
    head_dim: int = 32
    matrix_learning_rate: float = 0.02
    other_learning_rate: float = 3e-3
    cooldown_frac: float = 0.4  # share of the updates over which the learning rates fall linearly to 0


BASE = BaseSize(hidden=128, layers=4, heads=4, kv_heads=2, intermediate=384, num_tokens=30_000_000)
SMALL = BaseSize(hidden=96, layers=3, heads=3, kv_heads=1, intermediate=256, num_tokens=8_000_000)
CODE = replace(
    BASE, num_tokens=8_000_000, matrix_learning_rate=0.01, other_learning_rate=1.5e-3, cooldown_frac=1.0
)
CONTEXT_TOKENS = 2048


def new_model(shape: BaseSize, tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """A randomly initialised model for the tokenizer."""
    torch.manual_seed(seed)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=shape.hidden,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            intermediate_size=shape.intermediate,
            max_position_embeddings=CONTEXT_TOKENS,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            dtype="float32",
        )
    )


def pretrain(
    shape: BaseSize,
    rows: np.ndarray,
    tokenizer_dir: Path,
    output: Path,
    *,
    seed: int,
    start: Path | None = None,
) -> None:
    """Train a base model on the rows of tokens and save it, with its tokenizer, in `output`.

    `start` is the folder of a model to continue from; without it the initial weights are random.
    """
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "rows.npy"  # the ranks map this file instead of pickling the rows
        np.save(stored, rows)
        arguments = (
            json.dumps(asdict(shape)),
            str(stored),
            str(tokenizer_dir),
            str(output),
            seed,
            f"{folder}/store",
            str(start) if start else None,
        )
        mp.spawn(_rank_main, args=arguments, nprocs=NUM_RANKS)  # type: ignore[attr-defined,no-untyped-call]


def _rank_main(
    rank: int,
    shape_json: str,
    stream: str,
    tokenizer_dir: str,
    output: str,
    seed: int,
    store: str,
    start: str | None,
) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=NUM_RANKS)
    shape = BaseSize(**json.loads(shape_json))
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    model = (
        Qwen3ForCausalLM.from_pretrained(start, dtype="float32")
        if start
        else new_model(shape, tokenizer, seed)
    )
    rows = np.load(stream, mmap_mode="r")
    _train(model, rows, shape, seed, rank)
    if rank == 0:
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.generation_config.pad_token_id = tokenizer.pad_token_id
        model.save_pretrained(output)
        tokenizer.save_pretrained(output)
    dist.destroy_process_group()


def _train(model: Qwen3ForCausalLM, rows: np.ndarray, shape: BaseSize, seed: int, rank: int) -> None:
    num_updates = len(rows) // (ROWS_PER_RANK * NUM_RANKS)
    order = np.random.default_rng(seed).permutation(len(rows))  # the same on both ranks
    optimizers = _optimizers(model, shape)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(o, lambda i: _rate(i, num_updates, shape.cooldown_frac))
        for o in optimizers
    ]
    started = time.monotonic()
    for update in range(num_updates):
        first = (update * NUM_RANKS + rank) * ROWS_PER_RANK
        batch = torch.from_numpy(rows[order[first : first + ROWS_PER_RANK]].astype(np.int64))
        loss = _loss(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        _average_gradients(model)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
        if rank == 0 and (update % 200 == 0 or update == num_updates - 1):
            done = (update + 1) * ROWS_PER_RANK * NUM_RANKS * ROW_TOKENS
            speed = done / (time.monotonic() - started)
            log.info("update %d/%d loss %.4f %.0f tokens/s", update + 1, num_updates, loss.item(), speed)


def _loss(model: Qwen3ForCausalLM, batch: Tensor) -> Tensor:
    """Mean cross-entropy of the next token over the rows."""
    logits = model(input_ids=batch[:, :-1], use_cache=False).logits
    return nn.functional.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten())


def _optimizers(model: Qwen3ForCausalLM, shape: BaseSize) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings and norms."""
    matrices = [
        p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n and "lm_head" not in n
    ]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        Muon(matrices, lr=shape.matrix_learning_rate),
        torch.optim.AdamW(
            others, lr=shape.other_learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        ),
    ]


def _rate(update: int, num_updates: int, cooldown_frac: float) -> float:
    """Warm-up, then constant, then linear to 0."""
    left = (num_updates - update) / (cooldown_frac * num_updates)  # above 1 before the cooldown
    return min(1.0, (update + 1) / WARMUP_UPDATES, left)


def _average_gradients(model: nn.Module) -> None:
    """Average the gradients by one all-reduce over one flat buffer, because they are many and small."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    flat /= NUM_RANKS
    for gradient, part in zip(gradients, _split(flat, gradients), strict=True):
        gradient.copy_(part)


def _split(flat: Tensor, like: list[Tensor]) -> Iterator[Tensor]:
    start = 0
    for tensor in like:
        yield flat[start : start + tensor.numel()].view_as(tensor)
        start += tensor.numel()
