"""What the benchmarks share: models of four sizes, prompts, lengths, clocks, the peak, turns and tables.

Contestants run in turn, in one process (or in the same ranks), on the same weights and prompts. A ratio is
taken within each repeat; shown are the median and, in brackets, the smallest and the largest. The peak is
that of a 1,024 x 1,024 float32 matrix product with as many threads, measured before and after.
Shares of the peak count the products of weights and of attention over the positions that are needed: a
prompt's once per group, no padding, nothing that is computed twice.
"""

import argparse
import io
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import datasets
import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    StoppingCriteria,
)

from r1kit.ranks import collectives

VOCAB_SIZE, PROMPT_TOKENS, GROUP_SIZE = 1024, 96, 16
EOS_ID = 0
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

Clock = Callable[[], float]


@dataclass(frozen=True)
class Size:
    """A model's shape."""

    hidden: int
    layers: int
    heads: int
    head_dim: int
    inner: int
    kv_heads: int = 2
    vocab: int = 1024


SIZES = {
    "0.9M": Size(hidden=128, layers=4, heads=4, head_dim=32, inner=384),
    "2M": Size(hidden=192, layers=4, heads=6, head_dim=32, inner=576),
    "10M": Size(hidden=384, layers=6, heads=6, head_dim=64, inner=1152),
    # SmolLM2-135M's shape
    "135M": Size(hidden=576, layers=30, heads=9, head_dim=64, inner=1536, kv_heads=3, vocab=49_152),
}


class EndsByRow(StoppingCriteria):
    """Ends row i when it has its own number of new tokens, as an end token would.

    With `eos_token_id` set, `generate` fills what is behind with padding, as it does after an end token.
    """

    def __init__(self, ends: Sequence[int], prompt_tokens: int = PROMPT_TOKENS) -> None:
        self._ends, self._prompt_tokens = torch.tensor(ends), prompt_tokens
        self.eos_token_id = torch.tensor([EOS_ID])

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        return input_ids.shape[1] - self._prompt_tokens >= self._ends


def make_model(size: Size) -> PreTrainedModel:
    """A Qwen3 model of this size with random weights, the same ones each time."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=size.vocab,
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        head_dim=size.head_dim,
        intermediate_size=size.inner,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=EOS_ID,
        pad_token_id=EOS_ID,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(config).eval()


def make_tokenizer() -> PreTrainedTokenizerBase:
    """A word for each token: w0, which ends and pads, to w1023."""
    words = {f"w{index}": index for index in range(VOCAB_SIZE)}
    raw = Tokenizer(models.WordLevel(words, unk_token="w1"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="w0", pad_token="w0", padding_side="left")


def random_ids(num_rows: int, length: int, *, seed: int = 0) -> list[tuple[int, ...]]:
    """Rows of random tokens, none of them the end token."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(1, VOCAB_SIZE, (num_rows, length), generator=generator)
    return [tuple(row) for row in drawn.tolist()]


def group_prompts(num_rows: int) -> list[tuple[int, ...]]:
    """A prompt for each row, the same for `GROUP_SIZE` rows after each other."""
    prompts = random_ids(-(-num_rows // GROUP_SIZE), PROMPT_TOKENS)
    return [prompt for prompt in prompts for _ in range(GROUP_SIZE)][:num_rows]


def natural_ends(num_rows: int, max_tokens: int) -> list[int]:
    """Log-normal lengths with a median of a fifth of the longest: most rows end early, a few at the limit."""
    lengths = np.random.default_rng(0).lognormal(np.log(max_tokens / 5), 0.8, num_rows)
    return [int(length) for length in np.clip(lengths, 4, max_tokens)]


def forward_flops(model: PreTrainedModel, num_tokens: int, num_keys: int) -> float:
    """Operations of a forward pass over `num_tokens`, which together look at `num_keys` keys."""
    config = model.config
    norms = sum(p.numel() for p in model.parameters() if p.dim() == 1)
    weights = sum(p.numel() for p in model.parameters()) - norms  # the embedding counts once: as the head
    attention = 2 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * num_keys
    return 2.0 * (weights * num_tokens + attention)


def completion_keys(prompt_tokens: int, lengths: Sequence[int]) -> int:
    """Keys that the tokens of completions of these lengths look at: the prompt's, earlier ones, their own."""
    return sum(length * prompt_tokens + length * (length + 1) // 2 for length in lengths)


def rollout_flops(model: PreTrainedModel, ends: Sequence[int], group_size: int = GROUP_SIZE) -> float:
    """Operations of sampling, prompts shared within a group."""
    num_prompts = -(-len(ends) // group_size)
    num_tokens = sum(ends) + num_prompts * PROMPT_TOKENS
    keys = completion_keys(PROMPT_TOKENS, ends) + num_prompts * PROMPT_TOKENS * (PROMPT_TOKENS + 1) // 2
    return forward_flops(model, num_tokens, keys)


def seconds(work: Callable[[], object], clock: Clock) -> float:
    """How long `work` takes."""
    start = clock()
    work()
    return clock() - start


def peak_gflops(clock: Clock = time.perf_counter) -> float:
    """The fastest of 200 float32 matrix products of 1,024 x 1,024, some three seconds of them, in GFLOP/s.

    With several ranks, which do so at once, the sum of theirs.
    """
    square = torch.randn(1024, 1024)
    collectives.barrier()
    fastest = min(seconds(lambda: torch.mm(square, square), clock) for _ in range(200))
    return sum(collectives.gather(2 * 1024**3 / fastest / 1e9))


def take_turns(contestants: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """What each contestant returned in each repeat; within a repeat they follow one another, ranks together.

    Every second repeat goes in the other direction, so that none always runs on a machine warmed by another.
    """
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for repeat in range(repeats):
        names = list(contestants) if repeat % 2 == 0 else list(contestants)[::-1]
        for name in names:
            collectives.barrier()
            found[name].append(contestants[name]())
    return found


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """`2.91x (2.80-3.02)`: the median of the repeats' ratios, the smallest and the largest."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return f"{statistics.median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f})"


def header(*names: str) -> None:
    """The first lines of a Markdown table."""
    row(*names)
    row(*("---" for _ in names))


def row(*cells: object) -> None:
    """A line of a Markdown table; shown at once."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def machine(clock_name: str = "wall") -> str:
    """Processor, cores, threads, versions and the load at this moment."""
    load = os.getloadavg()[0]
    return (
        f"{_processor()}, {os.cpu_count()} cores, {collectives.world_size()} process(es) with "
        f"{torch.get_num_threads()} thread(s), {clock_name} clock, torch {torch.__version__}, load {load:.1f}"
    )


def _start_ranks(processes: int) -> NoReturn:
    """Run this script again, as so many ranks of gloo."""
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={processes}",
    ]
    os.execv(sys.executable, [*launcher, *sys.argv])


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def parser(docstring: str | None) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    options = argparse.ArgumentParser(description=(docstring or "").splitlines()[0])
    options.add_argument("--sizes", nargs="+", default=list(SIZES)[:3], choices=list(SIZES))
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="cpu: processor time, for a machine that others use too; with one thread only",
    )
    options.add_argument("--quick", action="store_true", help="the same on very little work, as a check")
    return options


def start(options: argparse.Namespace) -> Clock:
    """Set the threads, print what is measured on; the clock that was asked for."""
    if options.clock == "cpu" and options.threads != 1:
        sys.exit("--clock cpu adds up the time of all threads, waiting ones too: use it with --threads 1")
    processes = getattr(options, "processes", 1)
    if processes > 1 and "RANK" not in os.environ:
        _start_ranks(processes)
    collectives.init()
    if not collectives.is_main():
        sys.stdout = io.StringIO()  # the first rank shows
    torch.set_num_threads(max(1, options.threads // processes))
    warnings.filterwarnings("ignore", category=FutureWarning)  # of libraries to each other, in every step
    datasets.disable_progress_bars()
    print(f"{machine(options.clock)}\n", flush=True)
    return time.perf_counter if options.clock == "wall" else time.process_time
