"""The math verifier on the pairs labelled for this project: precision, recall, and where math-verify differs.

    python benchmarks/math_verifier.py [--list all] [--rate]

Beside it stands math-verify as it comes, `verify(parse(truth), parse(text))`, and what it says of the answer
that our extraction finds, as a boxed one. Disagreements with either are listed with their line in
tests/rewards/math_pairs*.txt. `--rate` also times plain numeric answers through the exact fast
path, in processor time of one process.
"""

import argparse
import multiprocessing
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.rewards.making import make_problem, make_rollout
from tests.rewards.math_pairs import HELD_OUT_PATH, PAIRS_PATH, Agreement, MathPair, agreement, math_pairs

from r1kit.rewards.accuracy import AccuracyReward, check_answers
from r1kit.rewards.answers import answer_in
from r1kit.rewards.math_pool import MathPool
from r1kit.template import format_zero

LIMIT_SECONDS = 60


def bare_verdict(pair: tuple[str, str]) -> bool:
    """What math-verify says of a truth and a text, with its own defaults; its errors are its verdict: no."""
    import logging

    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)
    truth, text = pair
    return bool(verify(parse(f"${truth}$", parsing_timeout=5), parse(text, parsing_timeout=5)))


def bare_verdicts(pairs: list[MathPair]) -> list[bool]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        results = [pool.apply_async(bare_verdict, ((pair.truth, pair.text),)) for pair in pairs]
        return [result.get(timeout=LIMIT_SECONDS * len(pairs)) for result in results]


def our_verdicts(pairs: list[MathPair]) -> list[bool]:
    pool = MathPool(num_workers=1, time_limit_seconds=LIMIT_SECONDS)
    rollouts = [make_rollout(make_problem("math", p.truth), format_zero("a", p.text)) for p in pairs]
    scores = AccuracyReward("zero", pool=pool)(rollouts)
    print(f"  time-outs {pool.counts['timeouts']}, crashes {pool.counts['crashes']}")
    pool.close()
    return [score == 1.0 for score in scores]


def boxed_verdicts(pairs: list[MathPair]) -> list[bool]:
    """math-verify on the extracted answers, in our pool but without our fast path and our readings."""
    answers = [answer_in(pair.text, make_problem("math", pair.truth)) for pair in pairs]
    pool = MathPool(num_workers=1, time_limit_seconds=LIMIT_SECONDS)
    verdicts = pool.check([(p.truth, answer or "") for p, answer in zip(pairs, answers, strict=True)])
    pool.close()
    return [bool(verdict) for verdict in verdicts]


def show(name: str, found: Agreement) -> None:
    print(
        f"  {name:12} precision {found.precision:.4f}  recall {found.recall:.4f}  "
        f"({len(found.false_positives)} taken wrongly, {len(found.false_negatives)} missed)"
    )


def compare(path: Path, *, list_all: bool) -> None:
    pairs = math_pairs(path)
    print(f"{path.name}: {len(pairs)} pairs, {sum(p.is_right for p in pairs)} right")
    ours, bare, boxed = our_verdicts(pairs), bare_verdicts(pairs), boxed_verdicts(pairs)
    for name, verdicts in (("r1kit", ours), ("math-verify", bare), ("its boxed", boxed)):
        show(name, agreement(pairs, verdicts))
    for name, verdicts in (("math-verify", bare), ("its boxed", boxed)):
        same = sum(a == b for a, b in zip(ours, verdicts, strict=True))
        print(f"  agreement of r1kit and {name}: {same / len(pairs):.4f}")
    print("  line  label  r1kit  math-verify  its boxed")
    for pair, *found in zip(pairs, ours, bare, boxed, strict=True):
        if len(set(found)) > 1 or (list_all and found[0] != pair.is_right):
            row = "  ".join("right" if verdict else "wrong" for verdict in (pair.is_right, *found))
            print(f"  {pair.line:4}  {row}  {pair.truth!r} <- {pair.text!r}")


def rate() -> None:
    items = [(make_problem("math", str(i)), f"{i + i % 2:,}") for i in range(20_000)]
    start = time.process_time()
    check_answers(items)
    seconds = time.process_time() - start
    print(f"plain numeric answers: {len(items) / seconds:,.0f} a second of processor time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", choices=["disagreements", "all"], default="disagreements")
    parser.add_argument("--rate", action="store_true")
    options = parser.parse_args()
    for path in (PAIRS_PATH, HELD_OUT_PATH):
        compare(path, list_all=options.list == "all")
    if options.rate:
        rate()


if __name__ == "__main__":
    main()
