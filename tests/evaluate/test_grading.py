"""Verdicts on sampled texts: strict and lenient, by rules, by the oracle, by a judge, or not at all."""

from dataclasses import replace

from r1kit.evaluate.grading import grade_rollouts, lenient_summary
from r1kit.judges.judge import Verdict
from r1kit.tinyworld.general import make_general
from r1kit.types import Completion, Problem, Rollout


def problem(**fields):
    defaults = {
        "id": "p",
        "kind": "math",
        "messages": ({"role": "user", "content": "What is 3+4?"},),
        "ground_truth": "7",
        "language": "en",
        "domain": "arithmetic",
    }
    return Problem(**{**defaults, **fields})


def grade_text(text, of=None, style="zero", finish_reason="stop", **options):
    completion = Completion((5, 6, 7), (), text, finish_reason, 0)
    rollout = Rollout(of or problem(), 0, 0, 0, 1, (1,), completion)
    [graded] = grade_rollouts([("held_out", rollout)], style, languages=("en", "zh"), **options)
    return graded


def test_a_well_formed_right_answer_is_correct_both_ways():
    graded = grade_text(" <think> Add them. 3+4=7. </think> <answer> 7 </answer>")
    assert (graded.well_formed, graded.correct, graded.lenient_correct) == (True, True, True)
    assert graded.answer == graded.answer_key == "7"
    assert graded.consistency == 1.0
    assert graded.reasoning_words == 2
    assert graded.reasoning_steps == 2
    assert graded.num_tokens == 3


def test_text_after_the_answer_fails_strictly_and_passes_leniently():
    graded = grade_text(" <think> 3+4=7 </think> <answer> 7 </answer> and more")
    assert (graded.well_formed, graded.correct, graded.lenient_correct) == (False, False, True)
    assert graded.answer is None


def test_a_text_that_was_cut_off_is_not_well_formed():
    graded = grade_text(" <think> 3+4=7 </think> <answer> 7 </answer>", finish_reason="length")
    assert (graded.well_formed, graded.correct) == (False, False)


def test_a_reasoning_of_figures_only_has_no_consistency():
    graded = grade_text(" <think> 3+4=7 </think> <answer> 7 </answer>")
    assert graded.reasoning_words == 0
    assert graded.consistency is None


def test_code_switching_lowers_the_consistency():
    graded = grade_text(" <think> We add them 先算 3+4=7 </think> <answer> 7 </answer>")
    assert 0.5 < graded.consistency < 1.0


def test_tries_are_counted_in_tinyworlds_search_family_only():
    text = " <think> Try 3 and 4: 12, too small. Try 5 and 2: 10, yes. </think> <answer> 5 and 2 </answer>"
    search = problem(
        kind="logic",
        domain="search",
        ground_truth="2 5",
        source="tinyworld",
        metadata={"verifier": "multiset"},
    )
    graded = grade_text(text, search)
    assert graded.num_tries == 2
    assert graded.correct is True
    assert graded.answer_key == "2 5"  # whatever the order in which it was written
    assert grade_text(text).num_tries is None
    assert grade_text(text, replace(search, source="own.jsonl")).num_tries is None


def test_the_oracle_grades_the_prompts_of_tinyworld():
    greeting = make_general("held_out", 1, seed=0, categories=["greeting"], languages=["en"])[0]
    good = grade_text("Hello! Nice to meet you. I hope this helps!", greeting, style="chat")
    assert good.closes_politely is True
    harmful = make_general("held_out", 1, seed=0, categories=["harmful"], languages=["en"])[0]
    refusal = grade_text("Sorry, I can't help with that.", harmful, style="zero")
    assert (refusal.correct, refusal.lenient_correct, refusal.refuses) == (False, True, True)
    assert grade_text("Sure. First go there at night.", harmful, style="chat").lenient_correct is False


def test_without_a_judge_what_only_a_judge_can_grade_is_not_graded():
    judged = problem(kind="judged", ground_truth=None, reference="It is blue.")
    graded = grade_text("<think>\nHm.\n</think>\n\nBlue.", judged, style="chat")
    assert graded.correct is None
    assert graded.lenient_correct is None


def test_a_judge_sees_the_summary_and_for_safety_the_whole_text():
    asked = []

    def judge(requests):
        asked.extend(requests)
        return [Verdict(1.0) for _ in requests]

    text = "<think>\nHm.\n</think>\n\nBlue."
    judged = problem(kind="judged", ground_truth=None, reference="It is blue.")
    assert grade_text(text, judged, style="chat", judge=judge).correct is True
    assert (
        grade_text(text, problem(kind="safety", ground_truth=None), style="chat", judge=judge).correct is True
    )
    assert [(r.task, r.prediction) for r in asked] == [("correctness", "Blue."), ("safety", text)]


def test_a_judgment_that_could_not_be_had_is_none_and_no_summary_is_wrong():
    def judge(requests):
        return [Verdict(None) for _ in requests]

    judged = problem(kind="judged", ground_truth=None, reference="It is blue.")
    assert grade_text("<think>\nHm.\n</think>\n\nBlue.", judged, style="chat", judge=judge).correct is None
    assert grade_text("<think>\nHm.", judged, style="chat", judge=judge).correct is False


def test_the_lenient_summary_is_what_follows_the_reasoning():
    assert lenient_summary("<think> a </think> <answer> b </answer> c") == "b"
    assert lenient_summary("<think> a </think> b") == "b"
    assert lenient_summary("<think> ") is None
