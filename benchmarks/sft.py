"""Supervised fine-tuning against TRL's SFTTrainer with packing, on examples of mixed lengths.

    python benchmarks/sft.py [--sizes 0.9M 2M 10M] [--threads 2] [--repeats 3]

Questions of 8 to 120 tokens in the template of R1-Zero, responses log-normal around 80 tokens and at most
384, the loss on the response alone, about 8,000 tokens an update. Ours is the stage itself (`run_sft`) with
its defaults: micro-batches of 4,000 tokens without padding. TRL runs with both of its ways of packing,
and the faster one counts: "bfd" (whole examples in one masked sequence, made for FlashAttention, which a
CPU has not) and "wrapped" (rows of 512 tokens without a mask: examples are cut and see each other, so it
computes something else, and less). Speed is tokens of prompts and responses per second of the updates
alone, wall time. The second row of a size has TRL in bfloat16, where it is faster so. How TRL is set:
`trl_peer.py`.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import contest
import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from r1kit.data.jsonl import write_jsonl
from r1kit.sft import Example, SftConfig, load_examples, run_sft
from r1kit.stage import StageContext
from r1kit.training.metrics_log import read_metrics

TOKENS = {"0.9M": 40_000, "2M": 24_000, "10M": 8_000}  # of all examples, about
TOKENS_PER_BATCH, ROW_TOKENS, ROWS = 8_000, 512, 4
STRATEGIES = ("bfd", "wrapped")


def mixed_records(num_tokens: int) -> list[dict[str, Any]]:
    """Records of random words, until there are about so many tokens with the template's 80 or so."""
    rng = np.random.default_rng(0)

    def words(length: int) -> str:
        return " ".join(f"w{token}" for token in rng.integers(2, contest.VOCAB_SIZE, length))

    records: list[dict[str, Any]] = []
    total = 0
    while total < num_tokens:
        question, response = int(rng.integers(8, 121)), int(np.clip(rng.lognormal(np.log(80), 0.8), 8, 384))
        messages = [{"role": "user", "content": words(question)}]
        records.append({"messages": messages, "response": words(response), "style": "zero"})
        total += 80 + question + response
    return records


def not_asked(name: str) -> Any:
    """The stage asks for no data by name but those it is given."""
    raise AssertionError(name)


def ours(folder: Path) -> Callable[[], float]:
    """The stage on the model and data in `folder`; the tokens per second of its updates."""
    numbers = count()
    config = SftConfig(
        model="base",
        data="data",
        epochs=1,
        tokens_per_batch=TOKENS_PER_BATCH,
        optimizer={"learning_rate": 1e-6},
    )

    def run() -> float:
        work = folder / f"run-{next(numbers)}"
        work.mkdir()
        context = StageContext(
            name="sft",
            work_dir=work,
            seed=0,
            dtype="float32",
            device="cpu",
            max_rows=1,
            model_path=lambda _: str(folder / "model"),
            data_path=lambda _: folder / "data.jsonl",
            problems=not_asked,
        )
        run_sft(context, config)
        rows = read_metrics(work)
        return sum(row["tokens"] for row in rows) / sum(
            row["tokens"] / row["tokens_per_second"] for row in rows
        )

    return run


def trl(folder: Path, examples: Sequence[Example], strategy: str, *, bf16: bool) -> Callable[[], float]:
    """TRL's trainer on the same; the tokens per second of its updates."""
    from transformers import AutoModelForCausalLM
    from trl_peer import TrlSft

    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    # a row of a micro-batch is a row of packed examples; about as many tokens an update as ours
    rows, accumulate = ROWS, max(1, TOKENS_PER_BATCH // (ROWS * ROW_TOKENS))
    pairs = [(example.prompt_token_ids, example.response_token_ids) for example in examples]
    peer = TrlSft(
        model,
        contest.make_tokenizer(),
        pairs,
        strategy=strategy,
        length=ROW_TOKENS,
        rows=rows,
        accumulate=accumulate,
        bf16=bf16,
    )
    num_tokens = sum(example.num_tokens for example in examples)
    return lambda: num_tokens / peer.run()


def prepare(name: str, folder: Path, options: argparse.Namespace) -> list[Example]:
    """Model and data in `folder`; the data's examples."""
    model: PreTrainedModel = contest.make_model(contest.SIZES[name])
    tokenizer: PreTrainedTokenizerBase = contest.make_tokenizer()
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    write_jsonl(folder / "data.jsonl", mixed_records(1_000 if options.quick else TOKENS[name]))
    return load_examples([folder / "data.jsonl"], tokenizer, 2048)[0]


def compare(name: str, options: argparse.Namespace) -> None:
    """The rows of the table for one size."""
    with tempfile.TemporaryDirectory(prefix="r1kit-sft-") as place:
        folder = Path(place)
        examples = prepare(name, folder, options)
        peers: Mapping[tuple[str, str], Callable[[], float]] = {
            (strategy, dtype): trl(folder, examples, strategy, bf16=dtype == "bfloat16")
            for strategy in STRATEGIES
            for dtype in contest.DTYPES
        }
        own = ours(folder)
        own()  # warms up
        trials = {which: peer() for which, peer in peers.items()}
        best = {dtype: max(STRATEGIES, key=lambda s, d=dtype: trials[s, d]) for dtype in contest.DTYPES}
        fastest = {dtype: trials[best[dtype], dtype] for dtype in contest.DTYPES}
        for dtype in contest.DTYPES:
            if dtype == "bfloat16" and fastest["bfloat16"] <= fastest["float32"]:
                continue
            speeds = contest.take_turns({"ours": own, "trl": peers[best[dtype], dtype]}, options.repeats)
            contest.row(
                name,
                f"{best[dtype]}, {dtype}",
                sum(example.num_tokens for example in examples),
                *(f"{statistics.median(speeds[who]):,.0f}" for who in ("ours", "trl")),
                contest.ratio(speeds["ours"], speeds["trl"]),
                ", ".join(f"{s} {trials[s, dtype]:,.0f}" for s in STRATEGIES),
            )


def main() -> None:
    options = contest.parser(__doc__).parse_args()
    if options.quick:
        options.sizes, options.repeats = options.sizes[:1], 1
    if options.clock == "cpu":
        sys.exit("the stage measures its updates by wall time: --clock wall")
    clock = contest.start(options)
    print(f"matrix-product peak {contest.peak_gflops(clock):.0f} GFLOP/s\n")
    contest.header(
        "size",
        "TRL's packing, precision",
        "tokens",
        "ours, tokens/s",
        "TRL",
        "ours / TRL",
        "TRL by packing (trial)",
    )
    for name in options.sizes:
        compare(name, options)
    print(f"\nmatrix-product peak after: {contest.peak_gflops(clock):.0f} GFLOP/s")


if __name__ == "__main__":
    main()
