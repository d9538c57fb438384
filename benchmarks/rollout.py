"""How fast completions are sampled: the local engine beside transformers' `generate`, in turn, in one run.

    python benchmarks/rollout.py [--sizes 0.9M 2M 10M] [--threads 1] [--rows 256] [--repeats 2]

Randomly initialised Qwen3 models in float32, 16 samples for each prompt of 96 tokens, temperature 1. "equal"
lets every row make the same number of tokens; "natural" gives each row its own end, drawn once from a
long-tailed distribution as reasoning has it. Both contestants get the same weights, prompts and ends, and
tokens per second count the tokens up to each row's end. A ratio is taken within each repeat; its smallest and
largest are shown. The machine's own peak is a 1,024 x 1,024 matrix product in the same process. On a machine
that others use too, `--clock cpu` (with one thread) counts processor time instead of waiting for them.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    StoppingCriteria,
    StoppingCriteriaList,
)

from r1kit.engines.base import SampleRequest, SamplingParams, sample_all
from r1kit.engines.local import make_engine

VOCAB_SIZE, PROMPT_TOKENS, GROUP_SIZE = 1024, 96, 16


@dataclass(frozen=True)
class Size:
    """A model's shape, and how many tokens its rows make (fewer where a token takes long)."""

    hidden: int
    layers: int
    heads: int
    head_dim: int
    inner: int
    max_tokens: int


SIZES = {
    "0.9M": Size(hidden=128, layers=4, heads=4, head_dim=32, inner=384, max_tokens=192),
    "2M": Size(hidden=192, layers=4, heads=6, head_dim=32, inner=576, max_tokens=112),
    "10M": Size(hidden=384, layers=6, heads=6, head_dim=64, inner=1152, max_tokens=48),
}


class EndsByRow(StoppingCriteria):
    """Ends row i after its own number of new tokens, as an end token would."""

    def __init__(self, ends: Sequence[int]) -> None:
        self._ends = torch.tensor(ends)

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        return input_ids.shape[1] - PROMPT_TOKENS >= self._ends


def make_model(size: Size) -> PreTrainedModel:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCAB_SIZE,
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=2,
        head_dim=size.head_dim,
        intermediate_size=size.inner,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    return Qwen3ForCausalLM(config).eval()


def make_tokenizer() -> PreTrainedTokenizerBase:
    words = {f"w{index}": index for index in range(VOCAB_SIZE)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")))


def natural_ends(num_rows: int, max_tokens: int) -> list[int]:
    """Log-normal lengths with a median of a fifth of the longest: most rows end early, a few at the limit."""
    lengths = np.random.default_rng(0).lognormal(np.log(max_tokens / 5), 0.8, num_rows)
    return [int(length) for length in np.clip(lengths, 4, max_tokens)]


def run_generate(model: PreTrainedModel, prompts: Sequence[tuple[int, ...]], ends: Sequence[int]) -> None:
    ids = torch.tensor(prompts)
    model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        top_k=0,
        max_new_tokens=max(ends),
        pad_token_id=0,
        eos_token_id=None,
        stopping_criteria=StoppingCriteriaList([EndsByRow(ends)]),
    )


def run_local(engine: object, prompts: Sequence[tuple[int, ...]], ends: Sequence[int]) -> None:
    pairs = enumerate(zip(prompts, ends, strict=True))
    requests = [SampleRequest(i, prompt, SamplingParams(end), seed=i) for i, (prompt, end) in pairs]
    sample_all(engine, requests)  # type: ignore[arg-type]


def seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    work()
    return clock() - start


def peak_gflops(clock: Callable[[], float]) -> float:
    square = torch.randn(1024, 1024)
    fastest = min(seconds(lambda: torch.mm(square, square), clock) for _ in range(20))
    return 2 * 1024**3 / fastest / 1e9


def compare(name: str, size: Size, num_rows: int, repeats: int, clock: Callable[[], float]) -> None:
    model, tokenizer = make_model(size), make_tokenizer()
    engine = make_engine(model, tokenizer, max_rows=num_rows)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(1, VOCAB_SIZE, (-(-num_rows // GROUP_SIZE), PROMPT_TOKENS), generator=generator)
    prompts = [tuple(row) for row in drawn.repeat_interleave(GROUP_SIZE, dim=0)[:num_rows].tolist()]
    parameters = sum(p.numel() for p in model.parameters())
    run_local(engine, prompts, [4] * num_rows)
    run_generate(model, prompts, [4] * num_rows)
    for kind, ends in (
        ("equal", [size.max_tokens // 2] * num_rows),
        ("natural", natural_ends(num_rows, size.max_tokens)),
    ):
        local, generate = [], []
        for _ in range(repeats):
            local.append(sum(ends) / seconds(lambda ends=ends: run_local(engine, prompts, ends), clock))
            generate.append(sum(ends) / seconds(lambda ends=ends: run_generate(model, prompts, ends), clock))
        ratios = [a / b for a, b in zip(local, generate, strict=True)]
        gflops = 2 * parameters * statistics.median(local) / 1e9
        print(
            f"{name:>5} {kind:>8} {sum(ends) / num_rows:8.0f} {statistics.median(local):10,.0f} "
            f"{statistics.median(generate):10,.0f} {statistics.median(ratios):7.2f}x "
            f"({min(ratios):.2f}-{max(ratios):.2f}) {gflops:8.0f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    peak = peak_gflops(clock)
    print(
        f"{options.rows} rows, {options.threads} thread(s), {options.clock} clock, "
        f"float32, torch {torch.__version__}"
    )
    print(f"matrix-product peak before: {peak:.0f} GFLOP/s")
    print(" size  lengths  tokens/row   local t/s  generate   ratio (smallest-largest)  GFLOP/s in weights")
    for name in options.sizes:
        compare(name, SIZES[name], options.rows, options.repeats, clock)
    print(f"matrix-product peak after: {peak_gflops(clock):.0f} GFLOP/s")


if __name__ == "__main__":
    main()
