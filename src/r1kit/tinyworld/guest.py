"""What tinyworld brings to r1kit. The core loads only this module of it, by name (`data.guests`)."""

from r1kit.data.guests import Guest, Oracle, OracleGrade, ProblemMaker, WorkedExample
from r1kit.seeds import derive_seed
from r1kit.text.language import problem_language
from r1kit.tinyworld import checkpoints, oracle
from r1kit.tinyworld.demonstrations import demonstrations
from r1kit.tinyworld.general import make_general
from r1kit.tinyworld.problems import FAMILIES, LANGUAGES, count_tries, make_problems, worked_examples
from r1kit.types import Problem, Response

# What is designed into the embedded world; readers of a report need it to judge the numbers.
_BUILT_IN = (
    "The base model of tinyworld is small, and its pretraining documents were written for this purpose. "
    "They mix many styles: most give a direct guess, and many break the format. The reliable style is "
    "longer, and often switches between English and Chinese. So reinforcement learning has something to "
    "bring out: accuracy and length rise together, and languages mix until the cold start and the "
    "language reward end that. The course of the numbers therefore demonstrates the recipe; it is not "
    "evidence about large models. docs/TINYWORLD.md describes everything that is built in."
)


def _grade(problem: Problem, response: Response | str) -> OracleGrade:
    found = oracle.grade(problem, response)
    return OracleGrade(found.correct, closes_politely=found.polite_closer, refuses=found.refused)


def _demonstrations(split: str, num: int, *, seed: int) -> list[tuple[Problem, Response]]:
    return [
        (shown.problem, Response(shown.reasoning, shown.response, well_formed=True))
        for shown in demonstrations(split, num, seed=seed)
    ]


def _worked_examples(problem: Problem, num: int, seed: int) -> list[WorkedExample]:
    """Examples of the problem's family and in its language, if tinyworld has these."""
    language = next((known for known in LANGUAGES if known == problem_language(problem)), LANGUAGES[0])
    family = problem.domain if problem.domain in FAMILIES else None
    # one more than needed, in case the problem itself is drawn
    drawn = worked_examples(language, family, num + 1, seed=derive_seed(seed, problem.id))
    others = [
        WorkedExample(shown.question, reasoning, answer, language)
        for shown, reasoning, answer in drawn
        if shown.metadata["identity"] != problem.metadata.get("identity")
    ]
    return others[:num]


def _count_tries(domain: str | None, text: str) -> int | None:
    # only search problems are solved by trying candidates one after the other
    return count_tries(text) if domain == "search" else None


GUEST = Guest(
    name="tinyworld",
    sources={
        "tinyworld": ProblemMaker(make_problems, takes=("tiers", "families", "languages")),
        "tinyworld-general": ProblemMaker(make_general, takes=("categories", "languages")),
    },
    checkpoints={
        "tinyworld": checkpoints.base_dir(),
        "tinyworld-small": checkpoints.small_dir(),
        "tinyworld-code": checkpoints.code_dir(),
    },
    demonstrations={"tinyworld-demonstrations": _demonstrations},
    worked_examples=_worked_examples,
    oracle=Oracle(_grade, oracle.is_safe, oracle.label_pair, oracle.label_safe),
    count_tries=_count_tries,
    built_in=_BUILT_IN,
)
