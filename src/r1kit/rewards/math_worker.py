"""A process that asks math-verify whether two mathematical expressions are equal. Started by `math_pool`.

Reads `{"truth": ..., "answer": ...}` a line, writes `{"correct": true}` a line, after a first line that
says it is ready. It sets itself no soft time limit: whoever started it kills it. What is covered: memory
(RLIMIT_AS), an alarm that ends it should its parent be gone. Not covered: a hostile expression that finds a
hole in SymPy's LaTeX parser; only LaTeX is parsed, as math-verify's plain expressions go through `eval`.
"""

import json
import os
import resource
import signal
import sys

MEMORY_LIMIT_BYTES = 4 * 2**30


def main(orphan_limit_seconds: int) -> None:
    """Answer requests from stdin until it closes."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints is no reply
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    from math_verify import LatexExtractionConfig, parse, verify

    extraction = [LatexExtractionConfig(boxed_match_priority=0)]

    def parsed(expression: str) -> list[object]:
        text = f"\\boxed{{{expression}}}"
        found: list[object] = parse(
            text, extraction_config=extraction, fallback_mode="no_fallback", parsing_timeout=None
        )
        return found

    def is_equal(truth: str, answer: str) -> bool:
        truths, answers = parsed(truth), parsed(answer)
        return bool(truths and answers and verify(truths, answers, timeout_seconds=None))

    is_equal("\\frac{1}{2}", "x^2")  # compiles what is compiled at first use, so that no item pays for it
    print(json.dumps({"ready": True}), file=replies)
    for line in sys.stdin:
        request = json.loads(line)
        # the default action of SIGALRM ends the process, also inside C code
        signal.alarm(orphan_limit_seconds)
        correct = is_equal(request["truth"], request["answer"])
        signal.alarm(0)
        print(json.dumps({"correct": correct}), file=replies)


if __name__ == "__main__":
    main(int(sys.argv[1]))
