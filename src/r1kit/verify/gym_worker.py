"""A worker process that asks reasoning-gym's own scorers whether an answer is right. Started by `math_pool`.

Reads one `{"truth": <where the problem is, as JSON>, "answer": ...}` per line and writes one `{"correct":
true}` per line, after a first line that says it is ready. An answer is right if it scores 1. If the data
set's scorer gives 1 to some wrong answers, it must also pass our own check (`gym_checks`). Partial credit
counts as wrong.
Covered: memory (RLIMIT_AS); an alarm that ends the process if its parent is gone; data sets whose scorers
`eval` the answer (as seen in reasoning-gym 0.1.25), which only receive answers that cannot call anything.
Not covered: a scorer of another version that evaluates answers and is not in this list.
"""

import copy
import json
import os
import re
import resource
import signal
import sys
from functools import lru_cache
from typing import Any

MEMORY_LIMIT_BYTES = 8 * 2**30

# These pass the answer to Python's `eval`: without a bracket that calls, it can only be a value.
_EVALUATED = frozenset({"string_insertion", "spiral_matrix", "binary_matrix", "n_queens"})
# These pass it to SymPy's parse_expr, which evaluates it with Python's builtins in reach.
_ARITHMETIC = frozenset({"countdown", "puzzle24"})
_ALGEBRA = frozenset({"simple_integration", "intermediate_integration", "polynomial_multiplication"})
# "3*(4+5)"
_ARITHMETIC_TEXT = re.compile(r"[\d\s+*/().-]{0,200}")
# "x**2/2 + sin(x) + C"; the names in it are checked one by one
_ALGEBRA_TEXT = re.compile(r"[\w\s+*/()^.,-]{0,1000}")
_FUNCTIONS = "sin cos tan sec csc cot asin acos atan sinh cosh tanh exp log ln sqrt pi"
_ALGEBRA_NAMES = frozenset(_FUNCTIONS.split())


def is_harmless(dataset: str, answer: str) -> bool:
    """Whether the data set's scorer can do nothing with the answer but score it."""
    if dataset in _EVALUATED:
        return "(" not in answer
    if dataset in _ARITHMETIC:
        return _ARITHMETIC_TEXT.fullmatch(answer) is not None
    if dataset in _ALGEBRA:
        names = re.findall(r"[^\W\d]\w*", answer)
        is_known = all(len(name) == 1 or name in _ALGEBRA_NAMES for name in names)
        return _ALGEBRA_TEXT.fullmatch(answer) is not None and "_" not in answer and is_known
    return True


def main(orphan_limit_seconds: int) -> None:
    """Answer requests from stdin until it closes."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # a library's prints must not look like replies
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    from reasoning_gym import create_dataset

    from r1kit.verify.gym_checks import passes, writings

    @lru_cache(maxsize=16)
    def dataset_of(place: str) -> Any:
        spec = json.loads(place)
        return create_dataset(spec["dataset"], seed=spec["seed"], size=spec["size"], **spec["options"])

    def is_right(place: dict[str, Any], answer: str) -> bool:
        name = place["dataset"]
        index = place.pop("index")
        dataset = dataset_of(json.dumps(place, sort_keys=True))
        entry = dataset[index]
        truth = entry["answer"] if entry["answer"] is not None else entry["metadata"].get("example_answer")
        # a copy: the scorer may change the entry it is given
        return any(
            is_harmless(name, text)
            and dataset.score_answer(text, copy.deepcopy(entry)) >= 1.0
            and passes(name, text, str(truth), entry)
            for text in writings(answer, str(truth))
        )

    print(json.dumps({"ready": True}), file=replies)
    for line in sys.stdin:
        request = json.loads(line)
        signal.alarm(orphan_limit_seconds)  # the default action of SIGALRM ends the process
        try:
            reply = {"correct": is_right(json.loads(request["truth"]), request["answer"])}
        except Exception:  # the scorer and the answer are not ours: count it as wrong, and report it
            reply = {"correct": False, "scorer_error": True}
        signal.alarm(0)
        print(json.dumps(reply), file=replies)


if __name__ == "__main__":
    main(int(sys.argv[1]))
