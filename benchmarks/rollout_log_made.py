"""A step log of any size with realistic lengths, for measurements: `make_log(folder, num_rollouts)`.

Texts are sentences of a reasoning model (English with LaTeX, some Chinese), of some hundred tokens; ids and
logprobs are drawn from pools, because drawing a billion of them would take longer than what is measured.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

GROUP = 16
PROBLEMS_PER_STEP = 512
RARE = "serendipitous"  # in one completion of 20,000
STAGES = ("zero", "dev2", "r1")

_SENTENCES = (
    "Let me think about this step by step.\n",
    "We have \\(x^2 + 3x - {n} = 0\\), so the discriminant is \\(9 + 4 \\cdot {n}\\).\n",
    "First, I add the tens and then the ones: {n} + 17 gives {m}.\n",
    "Wait, that can't be right; let me check it once more.\n",
    'The question says "at least {n}", which excludes the boundary.\n',
    "So \\frac{{{n}}}{{{m}}} simplifies, because both are divisible by 3.\n",
    "Hmm, alternatively we could count the complement, which has {n} elements.\n",
    "我们先把十位数相加，再把个位数相加，得到 {n}。\n",
    "If the train leaves at {n} and arrives at {m}, it takes the difference of both.\n",
    "Therefore the sum over all even numbers up to {n} is {m}.\n",
    "However, we have to subtract the cases that were counted twice, namely {n} of them.\n",
    "Substituting back, the left side is {m} and the right side is {m}, as it should be.\n",
)
_KINDS = ("math", "math", "math", "choice", "logic", "code")


def make_log(run_dir: Path, num_rollouts: int, *, seed: int = 0) -> int:
    """Write a run's folder with the step logs of three stages; returns the log's bytes."""
    rng = np.random.default_rng(seed)
    # at least a step for every stage
    per_step = min(PROBLEMS_PER_STEP * GROUP, -(-num_rollouts // len(STAGES)))
    num_steps = -(-num_rollouts // per_step)
    logprobs = [f"{value:.9g}" for value in -rng.exponential(0.3, 200_000)]
    ids = [str(value) for value in rng.integers(5, 151_000, 200_000)]
    sentences = [
        json.dumps(s.format(n=rng.integers(10, 999), m=rng.integers(10, 9999)), ensure_ascii=False)[1:-1]
        for s in _SENTENCES
        for _ in range(300)
    ]
    total, made = 0, 0
    for index in range(num_steps):
        stage = STAGES[index * len(STAGES) // num_steps]
        step = index - min(i for i in range(num_steps) if STAGES[i * len(STAGES) // num_steps] == stage) + 1
        rows = min(per_step, num_rollouts - made)
        folder = run_dir / stage / "rollouts"
        if step == 1:
            folder.mkdir(parents=True)
            manifest = {"stage": stage, "kind": "grpo", "key": {"config": {"prompt_style": "chat"}}}
            (run_dir / stage / "manifest.json").write_text(json.dumps(manifest))
        data = _step(rng, step, made, rows, logprobs, ids, sentences)
        path = folder / f"step-{step:05d}.jsonl"
        path.write_bytes(data)
        line = {"step": step, "rows": rows, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        with (folder / "index.jsonl").open("a") as file:
            file.write(json.dumps(line | {"measured": {}}) + "\n")
        total, made = total + len(data), made + rows
    return total


def _step(rng, step, first, rows, logprobs, ids, sentences):  # type: ignore[no-untyped-def]
    lines = []
    lengths = np.clip(rng.lognormal(5.7, 0.5, rows), 30, 2048).astype(int)  # median 300 tokens
    starts = rng.integers(0, 190_000, (rows, 2))
    rights = rng.random(rows)
    for i in range(rows):
        group, sample = divmod(i, GROUP)
        if sample == 0:
            number = int(rng.integers(0, 20_000))  # a problem comes again in later steps
            kind = _KINDS[number % len(_KINDS)]
            question = (
                f"Problem {number}: what is {number} + {number * 7}, and why is it not {number * 9}? " * 3
            )
            problem = {
                "id": f"{kind}-{number}",
                "kind": kind,
                "messages": [{"role": "user", "content": question}],
                "ground_truth": str(number * 8),
                "language": "zh" if number % 5 == 0 else "en",
                "domain": kind,
                "tier": "hard" if number % 3 == 0 else "ordinary",
                "source": "made",
            }
            head = f'{{"problem": {json.dumps(problem, ensure_ascii=False)}, "step": {step}, "group": {group}'
            prompt = ", ".join(ids[number : number + 90])
            chance = (number % 11) / 10
        length = int(lengths[i])
        a, b = starts[i]
        body = "".join(sentences[(a + j * 37) % len(sentences)] for j in range(length // 22 + 1))
        if (first + i) % 20_000 == 777:
            body += f"What a {RARE} result. "
        right, cut = rights[i] < chance, length >= 1000
        text = f"<think>\\n{body}</think>\\n\\nThe answer is \\\\boxed{{{number * 8 if right else number}}}."
        reward = {
            "parts": {
                "accuracy": float(right and not cut),
                "format": float(not cut),
                "language": float(f"{rights[i]:.4f}"),
            },
            "weights": {"accuracy": 1.0, "format": 1.0, "language": 1.0},
        }
        reward["total"] = sum(reward["parts"].values())
        lines.append(
            f'{head}, "sample": {sample}, "seed": {first + i}, "prompt_token_ids": [{prompt}], '
            f'"completion": {{"token_ids": [{", ".join(ids[a : a + length])}], '
            f'"sampler_logprobs": [{", ".join(logprobs[b : b + length])}], "text": "{text}", '
            f'"finish_reason": "{"length" if cut else "stop"}", "weights_version": {step - 1}}}, '
            f'"reward": {json.dumps(reward)}, "advantage": {float(rights[i] - 0.5)!r}, '
            f'"problem_set": "reasoning", "wave": 0}}\n'
        )
    return "".join(lines).encode()
