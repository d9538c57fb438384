"""How fast completions are sampled: the local engine, transformers' `generate`, and vLLM where it is.

    python benchmarks/rollout.py [--sizes 0.9M 2M 10M 135M] [--threads 2] [--rows 256] [--repeats 3]
                                 [--unpacked] [--vllm-python ENVIRONMENT/bin/python]

Randomly initialised Qwen3 models, 16 samples for each prompt of 96 tokens, temperature 1. "equal" lets
every row make the same number of tokens; "natural" gives each row its own end, drawn once from a
long-tailed distribution as reasoning has it. All contestants get the same weights, prompts and ends, and
tokens per second count the tokens up to each row's end. A second row has each contestant at its best
precision: both are tried on a part of the work, and where float32 is the faster one for all, the row would
be the same and is left out.

With `--unpacked` the local engine is a contestant twice: as it is, and with torch's own matrix products
where it would keep weights packed for oneDNN (`sampling.local.weights`).

`generate` runs all rows as one batch with its dynamic cache and its sampler without top-k. vLLM's CPU build
has an environment of its own (`docs/performance.md`), named by `--vllm-python` or R1KIT_VLLM_PYTHON; how it
is set is in `vllm_worker.py`. Its seconds are wall time whatever the clock.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import contest
import torch
from transformers import PreTrainedModel, StoppingCriteriaList

from r1kit.sampling.engine import RolloutEngine, SampleRequest, SamplingParams, sample_all
from r1kit.sampling.local import make_engine, weights

MAX_TOKENS = {"0.9M": 192, "2M": 112, "10M": 48, "135M": 48}  # fewer where a token takes long
Prompts = Sequence[tuple[int, ...]]
Run = Callable[[Prompts, Sequence[int]], float]
"""Samples rows to their ends; the seconds that it took."""


class Vllm:
    """vLLM in a process of its own Python, which stays while its model is measured."""

    def __init__(self, python: str, folder: Path, dtype: str, threads: int) -> None:
        worker = Path(__file__).with_name("vllm_worker.py")
        command = [python, str(worker), str(folder), dtype, str(threads)]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (it lives as long as the process)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )
        self.version = self._answer()["ready"]

    def run(self, prompts: Prompts, ends: Sequence[int]) -> float:
        """Sample these rows; the seconds that it took."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"prompts": list(prompts), "ends": list(ends)}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if answer["tokens"] != sum(ends):
            sys.exit(f"vLLM made {answer['tokens']} tokens, not {sum(ends)}")
        return float(answer["seconds"])

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            sys.exit(f"vLLM ended with this error:\n{self._log.read()[-3000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def local(engine: RolloutEngine, clock: contest.Clock) -> Run:
    """The local engine as a contestant."""

    def run(prompts: Prompts, ends: Sequence[int]) -> float:
        requests = [
            SampleRequest(i, prompt, SamplingParams(end), seed=i)
            for i, (prompt, end) in enumerate(zip(prompts, ends, strict=True))
        ]
        return contest.seconds(lambda: sample_all(engine, requests), clock)

    return run


def generate(model: PreTrainedModel, clock: contest.Clock) -> Run:
    """transformers' `generate` as a contestant."""

    def run(prompts: Prompts, ends: Sequence[int]) -> float:
        ids = torch.tensor(prompts)
        options = {
            "attention_mask": torch.ones_like(ids),
            "do_sample": True,
            "top_k": 0,
            "max_new_tokens": max(ends),
            "pad_token_id": contest.EOS_ID,
            "eos_token_id": None,
            "stopping_criteria": StoppingCriteriaList([contest.EndsByRow(ends)]),
        }
        return contest.seconds(lambda: model.generate(ids, **options), clock)

    return run


def build(
    name: str, dtype: str, options: argparse.Namespace, clock: contest.Clock, stack: ExitStack
) -> dict[str, Run]:
    """The contestants, with weights of a size in a precision."""
    model = contest.make_model(contest.SIZES[name]).to(contest.DTYPES[dtype])
    tokenizer = contest.make_tokenizer()
    runs = {
        "local": local(make_engine(model, tokenizer, max_rows=options.rows), clock),
        "generate": generate(model, clock),
    }
    if options.unpacked:
        fewest, weights._FEWEST_PACKED = weights._FEWEST_PACKED, sys.maxsize
        runs["unpacked"] = local(make_engine(model, tokenizer, max_rows=options.rows), clock)
        weights._FEWEST_PACKED = fewest
    if options.vllm_python:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="r1kit-rollout-")))
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        vllm = Vllm(options.vllm_python, folder, dtype, options.threads)
        stack.callback(vllm.close)
        runs["vllm"] = vllm.run
    return runs


def lengths_of(name: str, options: argparse.Namespace) -> dict[str, list[int]]:
    """The rows' ends by the kind of lengths."""
    longest = 12 if options.quick else MAX_TOKENS[name]
    return {
        "equal": [longest // 2] * options.rows,
        "natural": contest.natural_ends(options.rows, longest),
    }


def compare(name: str, options: argparse.Namespace, clock: contest.Clock, peak: float) -> None:
    """The rows of the table for one size."""
    prompts = contest.group_prompts(options.rows)
    with ExitStack() as stack:
        by_dtype = {dtype: build(name, dtype, options, clock, stack) for dtype in contest.DTYPES}
        trial = [8] * options.rows
        for runs in by_dtype.values():
            for run in runs.values():
                run(prompts, trial)  # warms up
        best = {
            who: min(contest.DTYPES, key=lambda dtype, who=who: by_dtype[dtype][who](prompts, trial))
            for who in by_dtype["float32"]
        }
        model = contest.make_model(contest.SIZES[name])
        for kind, ends in lengths_of(name, options).items():
            for precision in ({who: "float32" for who in best}, best):
                if precision is best and set(best.values()) == {"float32"}:
                    continue
                turns = {
                    who: (lambda run=by_dtype[dtype][who], ends=ends: sum(ends) / run(prompts, ends))
                    for who, dtype in precision.items()
                }
                speeds = contest.take_turns(turns, options.repeats)
                flops = contest.rollout_flops(model, ends) / sum(ends) * statistics.median(speeds["local"])
                is_float32 = precision["local"] == "float32"
                contest.row(
                    name,
                    kind,
                    "float32" if precision is not best else ", ".join(f"{w} {d}" for w, d in best.items()),
                    f"{sum(ends) / len(ends):.0f}",
                    *(f"{statistics.median(speeds[who]):,.0f}" if who in speeds else "-" for who in NAMES),
                    *(
                        contest.ratio(speeds["local"], speeds[who]) if who in speeds else "-"
                        for who in NAMES[1:]
                    ),
                    f"{flops / 1e9 / peak:.0%}" if is_float32 else "-",
                )


NAMES = ("local", "generate", "vllm", "unpacked")


def main() -> None:
    parser = contest.parser(__doc__)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument(
        "--unpacked", action="store_true", help="also the local engine without packed weights"
    )
    parser.add_argument("--vllm-python", default=os.environ.get("R1KIT_VLLM_PYTHON"))
    options = parser.parse_args()
    if options.quick:
        options.sizes, options.rows, options.repeats = options.sizes[:1], 32, 1
    clock = contest.start(options)
    peak = contest.peak_gflops(clock)
    print(f"{options.rows} rows; matrix-product peak {peak:.0f} GFLOP/s\n")
    contest.header(
        "size", "lengths", "precision", "tokens a row", "local, tokens/s", "generate", "vLLM", "unpacked",
        "local / generate", "local / vLLM", "local / unpacked", "local: share of the peak",
    )  # fmt: skip
    for name in options.sizes:
        compare(name, options, clock, peak)
    print(f"\nmatrix-product peak after: {contest.peak_gflops(clock):.0f} GFLOP/s")


if __name__ == "__main__":
    main()
