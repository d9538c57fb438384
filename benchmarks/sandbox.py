"""How many runs a second the sandbox makes: one test to each cage, and twenty.

    python benchmarks/sandbox.py [--programs 40] [--workers 2] [--language python] [--wrong 0.0]

Every program adds two numbers. A run is one test of one program: a process of its own, with its own limits
and an empty work folder. Both ways make as many runs. `--wrong` is the share of programs that print another
number; they are stopped at their first test, and so make fewer.
"""

import argparse
import time

from r1kit.data.limits import CodeLimits
from r1kit.sandbox import (
    LANGUAGES,
    Language,
    Outcome,
    Program,
    ProgramTests,
    SandboxPool,
    Stdin,
    sandbox_refusal,
)

SOURCES: dict[Language, str] = {
    "python": "print(sum(map(int, input().split())) + {off})",
    "cpp": "#include <cstdio>\n"
    'int main() {{ int a, b; scanf("%d %d", &a, &b); printf("%d", a + b + {off}); }}',
    "javascript": "const [a, b] = require('fs').readFileSync(0, 'utf8').split(' ').map(Number);\n"
    "console.log(a + b + {off});",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--programs", type=int, default=40, help="of 20 tests each")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--language", choices=LANGUAGES, default="python")
    parser.add_argument("--wrong", type=float, default=0.0, help="share of programs that fail")
    given = parser.parse_args()
    if refusal := sandbox_refusal(given.language):
        parser.error(refusal)
    pool = SandboxPool(num_workers=given.workers)
    for num_tests in (1, 20):
        jobs = [
            make_job(given.language, i, num_tests, is_wrong=i < given.wrong * given.programs)
            for i in range(given.programs if num_tests == 20 else 20 * given.programs)
        ]
        began = time.perf_counter()
        results = [result for result in pool.run(jobs) if result is not None]
        seconds = time.perf_counter() - began
        num_runs = sum(len(result.outcomes) for result in results)
        print(
            f"{num_tests:2} tests to a cage: {num_runs} runs of {len(results)} programs in {seconds:.1f} s, "
            f"{num_runs / seconds:.1f} runs/s, {sum(result.num_passed for result in results)} passed"
        )


def make_job(language: Language, number: int, num_tests: int, *, is_wrong: bool) -> ProgramTests:
    pairs = [(number, i) for i in range(num_tests)]

    def accept(i: int, outcome: Outcome) -> bool:
        return outcome.is_clean and outcome.stdout.strip() == str(sum(pairs[i])).encode()

    source = SOURCES[language].format(off=int(is_wrong))
    tests = [Stdin(f"{a} {b}\n") for a, b in pairs]
    return ProgramTests(Program(source, language), tests, accept, CodeLimits(wall_seconds=120))


if __name__ == "__main__":
    main()
