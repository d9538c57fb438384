"""What tinyworld's base can do in each manner of reasoning, and what it does when left alone.

    python benchmarks/base_manners.py [MODEL] [--problems 200] [--samples 4] [--temperature 0.6]

Held-out problems in Table 1's template. "free" is what the base writes by itself: mostly guesses. In other
rows its reasoning is begun for it, with the first words of the careful manner or of a guess: so one sees what
reinforcement learning can bring out, family by family, before it is run. Answers are read leniently (the
format is another matter), and a family's chance level is what the guesses reach.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import torch

from r1kit.model.loading import load_model, load_tokenizer
from r1kit.rewards.accuracy import check_answers
from r1kit.sampling.engine import SampleRequest, SamplingParams, sample_all
from r1kit.sampling.local import make_engine
from r1kit.text.template import render_zero
from r1kit.tinyworld.checkpoints import base_dir
from r1kit.tinyworld.problems import FAMILIES, TIERS, make_problems
from r1kit.types import Problem
from r1kit.verify.answers import lenient_answer

CAREFUL = {
    "arithmetic": {"en": "First we", "zh": "首先"},
    "word": {"en": "First we", "zh": "首先"},
    "logic": {"en": "At first", "zh": "开始"},
    "choice": {"en": "Option A is", "zh": "选项A是"},
    "search": {"en": "Let me try", "zh": "我来试"},
    "code": {"en": "Given", "zh": "由f("},
}
GUESS = {"en": "I think it is", "zh": "我想是"}


def opening(manner: str, problem: Problem) -> str:
    """The words with which the completion is begun."""
    language = problem.language or "en"
    if manner == "careful":
        return f" <think> {CAREFUL[problem.domain][language]}"
    return f" <think> {GUESS[language]}" if manner == "guess" else ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", type=Path, default=base_dir())
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--temperature", type=float, default=0.6)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    tokenizer = load_tokenizer(str(args.model))
    engine = make_engine(load_model(str(args.model)), tokenizer)
    problems = make_problems("held_out", args.problems, seed=0, families=FAMILIES)
    params = SamplingParams(256, args.temperature, 0.95, stop_token_ids=(tokenizer.eos_token_id,))
    cells = [(family, tier) for family in FAMILIES for tier in TIERS]
    print(
        f"{'':10}" + "".join(f"{family[:10] + ' ' + tier[:4]:>16}" for family, tier in cells) + f"{'all':>8}"
    )
    for manner in ("free", "guess", "careful"):
        requests = []
        for i, problem in enumerate(problems):
            prompt = tuple(tokenizer(render_zero(problem.question) + opening(manner, problem)).input_ids)
            rows = range(i * args.samples, (i + 1) * args.samples)
            requests += [SampleRequest(row, prompt, params, row) for row in rows]
        right: dict[tuple[str, str], list[bool]] = defaultdict(list)
        asked = []
        for row, completion in enumerate(sample_all(engine, requests)):
            problem = problems[row // args.samples]
            text = opening(manner, problem) + completion.text
            asked.append((problem, lenient_answer(text, "zero", problem)))
        verdicts = iter(check_answers([(p, answer) for p, answer in asked if answer is not None]))
        for problem, answer in asked:
            right[problem.domain, problem.tier].append(answer is not None and next(verdicts))
        shares = "".join(f"{sum(right[cell]) / max(1, len(right[cell])):>16.2f}" for cell in cells)
        total = [verdict for verdicts in right.values() for verdict in verdicts]
        print(f"{manner:10}{shares}{sum(total) / len(total):>8.2f}", flush=True)


if __name__ == "__main__":
    main()
