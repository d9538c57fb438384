"""The math verifier on labelled pairs: precision and recall by set, with math-verify beside it.

    python benchmarks/math_verifier.py [FILES] [--suites CHECKOUT ...] [--list all] [--rate]

Without files, the pairs labelled for this project (tests/rewards/math_pairs*.txt). FILES are .jsonl or
.jsonl.gz: rows of `gold`, `text`, `right` (sets are the first part of `id`), or of `truth`, `answer`, `want`.
`--suites` takes checkouts of Math-Verify or lighteval and reads the pairs out of their tests. math-verify is
asked as it comes: `verify(parse(truth), parse(text))`. Disagreements with the labels are listed. `--rate`
times plain numeric answers through the exact fast path, in processor time of one process.
"""

import argparse
import ast
import gzip
import json
import math
import multiprocessing
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.making import make_problem
from tests.verify.math_pairs import HELD_OUT_PATH, PAIRS_PATH, Agreement, MathPair, agreement, math_pairs

from r1kit.rewards.accuracy import check_answers
from r1kit.verify.answers import answer_in
from r1kit.verify.math_pool import MathPool

LIMIT_SECONDS = 60


def pairs_in(path: Path) -> list[MathPair]:
    """The pairs of a file: this project's format, or rows of JSON."""
    if path.suffix == ".txt":
        return math_pairs(path)
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    pairs = []
    for line, row_text in enumerate(text.decode().splitlines(), 1):
        row = json.loads(row_text)
        kind = str(row.get("id", path.stem)).split("/")[0]
        truth, answer = row.get("gold", row.get("truth")), row.get("text", row.get("answer"))
        pairs.append(MathPair(line, kind, truth, answer, bool(row.get("right", row.get("want")))))
    return pairs


def pairs_in_suite(checkout: Path) -> list[MathPair]:
    """What a peer's parametrised tests say of (gold, pred, expected)."""
    pairs = []
    for path in sorted(checkout.glob("tests/**/test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                for row in rows_of(node):
                    wanted = row.get("expected", row.get("result"))
                    if wanted in (0, 1) and "gold" in row and "pred" in row:
                        pairs.append(
                            MathPair(node.lineno, node.name, str(row["gold"]), str(row["pred"]), bool(wanted))
                        )
    # letters of options are no mathematics
    return [pair for pair in pairs if not pair.kind.endswith("abc")]


def rows_of(test: ast.FunctionDef) -> list[dict[str, object]]:
    """The rows that a test is parametrised with, as far as they are constants."""
    rows: list[dict[str, object]] = []
    for decorator in test.decorator_list:
        if not (isinstance(decorator, ast.Call) and "parametrize" in ast.unparse(decorator.func)):
            continue
        names = str(ast.literal_eval(decorator.args[0])).replace(" ", "").split(",")
        for element in getattr(decorator.args[1], "elts", []):
            values = [constant(value) for value in getattr(element, "elts", [])]
            rows.append(dict(zip(names, values, strict=False)))
    return rows


def constant(node: ast.expr) -> object:
    """A constant; of names (languages) their text, of the one f-string in those suites its value."""
    if isinstance(node, ast.JoinedStr):
        return f"{math.sqrt(17):.15f}" if "math.sqrt(17)" in ast.unparse(node) else "$\\sqrt{17}$"
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def bare_verdict(pair: tuple[str, str]) -> bool:
    """What math-verify says of a truth and a text, with its own defaults; its errors are its verdict: no."""
    import logging

    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)
    truth, text = pair
    gold = truth if "$" in truth or "\\boxed" in truth else f"${truth}$"
    return bool(verify(parse(gold, parsing_timeout=5), parse(text, parsing_timeout=5)))


def bare_verdicts(pairs: list[MathPair]) -> list[bool]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        results = [pool.apply_async(bare_verdict, ((pair.truth, pair.text),)) for pair in pairs]
        return [result.get(timeout=LIMIT_SECONDS * len(pairs)) for result in results]


def our_verdicts(pairs: list[MathPair]) -> list[bool]:
    """Extraction and verifier, as the reward uses them; a text without an answer is wrong."""
    pool = MathPool(num_workers=1, time_limit_seconds=LIMIT_SECONDS)
    problems = [make_problem("math", pair.truth) for pair in pairs]
    answers = [answer_in(pair.text, problem) for pair, problem in zip(pairs, problems, strict=True)]
    rows = [i for i, answer in enumerate(answers) if answer is not None]
    verdicts = [False] * len(pairs)
    checked = check_answers([(problems[i], answers[i] or "") for i in rows], pool=pool)
    for i, correct in zip(rows, checked, strict=True):
        verdicts[i] = bool(correct)
    print(f"  time-outs {pool.counts['timeouts']}, crashes {pool.counts['crashes']}")
    pool.close()
    return verdicts


def shown(found: Agreement) -> str:
    """Precision and recall, "-" where nothing was taken, or nothing is right."""
    taken = found.num_right - len(found.false_negatives) + len(found.false_positives)
    precision = f"{found.precision:.4f}" if taken else "-"
    return f"{precision:>18} {f'{found.recall:.4f}' if found.num_right else '-':>6}"


def compare(name: str, pairs: list[MathPair], *, list_all: bool) -> None:
    print(f"{name}: {len(pairs)} pairs, {sum(pair.is_right for pair in pairs)} right")
    ours, bare = our_verdicts(pairs), bare_verdicts(pairs)
    kinds = list(dict.fromkeys(pair.kind for pair in pairs))
    print("  set                  pairs   r1kit: precision recall   math-verify: precision recall")
    for kind in [*(kinds if 1 < len(kinds) <= 12 else []), "all"]:
        rows = [i for i, pair in enumerate(pairs) if kind in ("all", pair.kind)]
        found = [
            agreement([pairs[i] for i in rows], [verdicts[i] for i in rows]) for verdicts in (ours, bare)
        ]
        numbers = "   ".join(map(shown, found))
        print(f"  {kind:20} {len(rows):5} {numbers}")
    print("  line  label  r1kit  math-verify")
    for pair, our, its in zip(pairs, ours, bare, strict=True):
        if our != pair.is_right or (list_all and its != pair.is_right):
            row = "  ".join("right" if verdict else "wrong" for verdict in (pair.is_right, our, its))
            print(f"  {pair.line:4}  {row}  {pair.truth[-100:]!r} <- {pair.text[-120:]!r}")


def rate() -> None:
    items = [(make_problem("math", str(i)), f"{i + i % 2:,}") for i in range(20_000)]
    start = time.process_time()
    check_answers(items)
    seconds = time.process_time() - start
    print(f"plain numeric answers: {len(items) / seconds:,.0f} a second of processor time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--suites", type=Path, nargs="+", default=[], metavar="CHECKOUT")
    parser.add_argument("--list", choices=["disagreements", "all"], default="disagreements")
    parser.add_argument("--rate", action="store_true")
    options = parser.parse_args()
    default = [] if options.suites else [PAIRS_PATH, HELD_OUT_PATH]
    for path in options.files or default:
        compare(path.name, pairs_in(path), list_all=options.list == "all")
    if options.suites:
        found = [pair for checkout in options.suites for pair in pairs_in_suite(checkout)]
        compare("suites", found, list_all=options.list == "all")
    if options.rate:
        rate()


if __name__ == "__main__":
    main()
