"""Checks of problem sets: rows that can't be verified, repeated questions, and questions shared by sets.

Questions are compared as text without spacing and case. Two ground truths differ if the verifier does not
accept one for the other.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

from r1kit.cold_start import ColdStartConfig
from r1kit.cold_start.run import source_labels, source_problems
from r1kit.data.faults import shown
from r1kit.data.questions import question_key
from r1kit.errors import DataError, RecipeError
from r1kit.evaluate.grading import grader_of
from r1kit.evaluate.run import EvalConfig
from r1kit.grpo import GrpoConfig
from r1kit.pipeline.checks.check import Check
from r1kit.pipeline.context import RunContext
from r1kit.pipeline.stages import references
from r1kit.preferences import PreferencesConfig
from r1kit.preferences.run import check_kinds
from r1kit.rejection import RejectionConfig
from r1kit.rejection.grading import check_gradable
from r1kit.rewards.accuracy import check_answers
from r1kit.rewards.base import applies
from r1kit.sandbox import sandbox_refusal
from r1kit.stage import SilentProgress
from r1kit.types import REASONING_KINDS, Problem

_NUM_SHOWN = 3  # examples in one message


def look_at_set(context: RunContext, name: str) -> Check:
    """The set as a run would load it; if it can't be loaded, what is wrong with its rows, by kind."""
    subject = f"problems.{name}"
    try:
        problems = context.problems(name)
    except DataError as error:
        lines = str(error).removeprefix(f"{subject}: ").splitlines()
        return Check(subject, faults=[f"{subject}: {line}" for line in _mendable(lines)])
    verified = sum(p.kind in ("math", "choice", "logic") for p in problems)
    programs = sum(p.kind == "code" for p in problems)
    others = len(problems) - verified - programs
    parts = (
        (verified, "truths score as right, corrupted as wrong"),
        (programs, "programs are scored by their tests"),
        (others, "without a rule to score them"),
    )
    found = ", ".join(f"{count} {what}" for count, what in parts if count)
    return Check(subject, found, warnings=[f"{subject}: {line}" for line in _repeated(problems)])


def _mendable(lines: list[str]) -> list[str]:
    """The lines that a user can act on: without a sandbox only its refusal, as no row can be at fault."""
    refusal = sandbox_refusal()
    if refusal is not None and any(refusal in line for line in lines):
        return [refusal]
    return lines


def _repeated(problems: Sequence[Problem]) -> Iterator[str]:
    """Warnings for questions that a set has twice: with one truth, and with two."""
    by_question: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        by_question.setdefault((problem.kind, question_key(problem)), []).append(problem)
    same: list[str] = []
    other: list[str] = []
    # one truth merely weights a problem twice; two contradict each other
    for first, *rest in by_question.values():
        for again in rest:
            ids = f"{first.id!r} and {again.id!r}"
            if _same_truth(first, again):
                same.append(ids)
            else:
                truths = f"{_truth(first)} and {_truth(again)}"
                other.append(f"{ids} ({shown(first.question)}: {truths})")
    if same:
        yield f"{len(same)} problems appear twice, with one truth: {_some(same)}; leave one of each out"
    if other:
        yield f"{len(other)} questions appear twice, with two truths: {_some(other)}; one must be wrong"


def _truth(problem: Problem) -> str:
    return shown(problem.ground_truth if problem.ground_truth is not None else problem.reference)


def _same_truth(first: Problem, again: Problem) -> bool:
    if first.kind == "code":
        return first.tests == again.tests
    if (first.ground_truth, first.reference) == (again.ground_truth, again.reference):
        return True
    if first.kind != "math" or again.ground_truth is None:
        return False
    # the verifier compares values: 1/2 and 0.5 are one truth
    return check_answers([(first, again.ground_truth)])[0] is True


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NUM_SHOWN
    return "; ".join(names[:_NUM_SHOWN]) + (f" and {more} more" if more > 0 else "")


def look_at_overlap(
    context: RunContext, stages: Collection[str], sound: Collection[str], sft_prompts: Mapping[str, set[str]]
) -> Check | str:
    """Warnings for questions that are trained on and also held out, for the evaluation or a stage's probe.

    `sft_prompts` are the questions of SFT files, by the place where the recipe names the files.
    """
    keys = {name: {question_key(p) for p in context.problems(name)} for name in sound}
    trained = {f"problems.{name}": keys[name] for name in _trained_on(context, stages) if name in keys}
    trained |= sft_prompts
    table = context.recipe.eval
    evaluated = [name for name in table.sets if name in keys] if isinstance(table, EvalConfig) else []
    warnings = [
        f"eval: {_shared(name, where, shared)}, which is trained on: it can't measure new problems"
        for name in evaluated
        for where, found in trained.items()
        if (shared := found & keys[name])
    ]
    for stage in stages:
        config = context.recipe.stages[stage]
        if not isinstance(config, GrpoConfig) or config.probe not in keys:
            continue
        probe = keys[config.probe]
        warnings += [
            f"stages.{stage}.probe: {_shared(config.probe, where, shared)}, which is trained on: it can't "
            "show gains on new problems"
            for where, found in trained.items()
            if (shared := found & probe)
        ]
        warnings += [
            f"stages.{stage}.probe: {_shared(config.probe, f'eval ({name})', shared)}: after a choice by the "
            "probe, it is no longer held out"
            for name in evaluated
            if (shared := keys[name] & probe)
        ]
    if warnings:
        return Check("held out", warnings=warnings)
    return "no question of evaluations and probes is trained on" if evaluated and trained else ""


def look_at_evaluation(context: RunContext, sound: Collection[str]) -> Check | str:
    """Whether every problem of the evaluation can be graded."""
    table = context.recipe.eval
    if not isinstance(table, EvalConfig) or table.judge is not None:
        return ""
    warnings: list[str] = []
    for name in table.sets:
        problems = context.problems(name) if name in sound else []
        if num := sum(grader_of(problem) == "judge" for problem in problems):
            warnings.append(
                f"eval: {num} of the {len(problems)} problems of {name!r} need a judge, and none is named: "
                "they will not be graded; add a table [eval.judge], or leave them out"
            )
    return Check("eval", warnings=warnings)


def _shared(name: str, where: str, shared: Collection[str]) -> str:
    if where == f"problems.{name}" or where == f"eval ({name})":
        return f"{name!r} is {where} itself"
    return f"{len(shared)} questions of {name!r} are in {where} too, such as {shown(min(shared))}"


def _trained_on(context: RunContext, stages: Collection[str]) -> list[str]:
    # a probe is watched, not trained on
    names = [
        reference.target
        for stage in stages
        for reference in references(context.recipe.stages[stage])
        if reference.role == "problems" and reference.keys != ("probe",)
    ]
    return list(dict.fromkeys(names))


def look_at_use(context: RunContext, stage: str, sound: Collection[str]) -> Check | str:
    """Whether a stage can use the problems of its sets: problems it would refuse, rewards never paid."""
    config = context.recipe.stages[stage]
    subject = f"stages.{stage}"
    named = {r.target for r in references(config) if r.role == "problems"}
    if not named <= set(sound):
        return ""  # the check of the set itself reports why
    match config:
        case RejectionConfig():
            problems = [p for name in config.problems for p in context.problems(name)]
            check_gradable(stage, problems, has_judge=config.judge is not None)
        case PreferencesConfig():
            problems = [p for name in config.problems for p in context.problems(name)]
            check_kinds(stage, config, problems)
        case ColdStartConfig():
            at_work = context.stage_context(stage, context.folder.path, SilentProgress())
            for label, source in source_labels(config.sources).items():
                source_problems(at_work, source, label)
        case GrpoConfig():
            return Check(subject, warnings=list(_idle(context, stage, config)))
    return ""


def _idle(context: RunContext, stage: str, config: GrpoConfig) -> Iterator[str]:
    """Warnings for rewards that no problem can earn and for sets smaller than a step.

    Raises `RecipeError` for problems that no reward applies to.
    """
    sets = {name: context.problems(name) for name in config.problem_sets()}
    # a reward that is switched on later in the schedule counts as paid
    weights = [config.rewards, *(point.weights for point in config.reward_schedule)]
    paid = {name for table in weights for name, weight in table.items() if weight}
    for name, problems in sets.items():
        for problem in problems:
            if not any(applies(reward, problem) for reward in paid):
                raise RecipeError(
                    f"stages.{stage}: none of its rewards ({', '.join(sorted(paid))}) is for problems of "
                    f"kind {problem.kind}, such as {problem.id!r} of {name!r}: add such a reward, or "
                    "leave them out"
                )
            if problem.kind == "judged" and "accuracy" in paid and "accuracy" not in config.judges:
                raise RecipeError(
                    f"stages.{stage}: problem {problem.id!r} of {name!r} is graded by a judge, and none is "
                    "configured: name one in `judges.accuracy`, or leave problems of kind `judged` out"
                )
    if config.probe is not None and not any(
        p.kind in REASONING_KINDS for p in context.problems(config.probe)
    ):
        raise RecipeError(
            f"stages.{stage}.probe: {config.probe!r} has no problem with a right answer to watch"
        )
    everything = [problem for problems in sets.values() for problem in problems]
    for reward in sorted(paid):
        if not any(applies(reward, problem) for problem in everything):
            yield f"stages.{stage}.rewards.{reward} applies to none of the stage's problems and is never paid"
    if len(everything) < config.problems_per_step:
        yield (
            f"stages.{stage}: problems_per_step = {config.problems_per_step}, but its sets have only "
            f"{len(everything)} problems: a step repeats some of them"
        )
