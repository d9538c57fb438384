import pytest

from r1kit.cold_start.candidates import Candidate
from r1kit.cold_start.rewrite import rewrite_by_rules
from r1kit.tinyworld.problems import make_problems
from r1kit.types import Response
from r1kit.verify.answers import extract_answer


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_program_is_summed_up_in_a_fence_and_reads_back_alone(language) -> None:
    problem = make_problems("train", 1, seed=0, families=["code"], languages=[language])[0]
    assert problem.reference is not None
    candidate = Candidate("a", problem, "few_shot", Response("Given f(0)=3, add 3.", problem.reference, True))
    for seed in range(4):
        rewritten = rewrite_by_rules(candidate, seed=seed)
        assert rewritten.summary is not None
        lead, fenced = rewritten.summary.split("\n", 1)
        assert lead.endswith((":", "："))
        assert fenced == f"```python\n{problem.reference}\n```"
        program = extract_answer(rewritten, problem)
        assert program is not None
        assert program.strip() == problem.reference
