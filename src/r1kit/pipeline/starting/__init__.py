"""`r1 init`: from model, data, goal and hardware to a recipe that `r1 doctor` passes.

The model and the data are looked at, never changed. Nothing is asked here: what is open is in `Start.doubts`,
and what was decided in `Start.decisions`. Not covered: general prompts and preferences (recipes/tiny.toml).
"""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from r1kit.data.questions import question_key
from r1kit.data.sources import ProblemSource, load_problems
from r1kit.errors import DataError, UserError
from r1kit.model.gguf import is_model_path
from r1kit.pipeline.context import RunContext
from r1kit.pipeline.memory import plan_memory
from r1kit.pipeline.recipe import is_base, load_recipe
from r1kit.pipeline.shipped import shipped_recipes
from r1kit.pipeline.starting.data import Data, look_at_data
from r1kit.pipeline.starting.decisions import decisions, notes
from r1kit.pipeline.starting.hardware import look_at_hardware
from r1kit.pipeline.starting.held_out import Test, find_test
from r1kit.pipeline.starting.model import Model, look_at_model
from r1kit.pipeline.starting.recipe_text import Parts, recipe_text, relocated
from r1kit.pipeline.starting.sizes import Sizes, first_sizes, fit
from r1kit.pipeline.starting.solutions import solution_column, write_solutions
from r1kit.pipeline.starting.stages import Plan
from r1kit.pipeline.starting.wishes import GOALS, Goal, Wishes, chosen
from r1kit.rewards.accuracy import verify_problem
from r1kit.sft import load_examples

__all__ = [
    "GOALS",
    "Data",
    "Goal",
    "Start",
    "Wishes",
    "chosen",
    "find_test",
    "look_at_data",
    "look_at_hardware",
]
__all__ += ["look_at_model", "refuse_existing", "start_recipe"]

# Weights, masters, gradients, optimizer, reference and sampler of a model that is not here: bytes for each.
_BYTES_TRAINED = {"gpu": 22, "cpu": 24}
_BYTES_FROZEN = {"gpu": 4, "cpu": 8}
_BYTES_BESIDE = 6 * 2**30


@dataclass(frozen=True, slots=True)
class Start:
    """A recipe that was written, and what was decided for it: subject and sentence."""

    path: Path
    decisions: list[tuple[str, str]]
    notes: list[str]


def refuse_existing(path: Path) -> None:
    """Raise `UserError` where there is something at the path already, or it is no place for a file."""
    if path.exists():
        raise UserError(f"{path} is there already; give another name, or move it away.")
    if str(path) in shipped_recipes():
        raise UserError(f"{path} is the name of a shipped recipe; give another one, such as {path}.toml.")
    there = next(folder for folder in path.absolute().parents if folder.exists())
    if not there.is_dir():
        raise UserError(f"{path}: {there} is a file, and no folder; give another place.")


def start_recipe(
    path: Path,
    wishes: Wishes,
    *,
    model: Model | None = None,
    data: Data | None = None,
    test: Test | None = None,
) -> Start:
    """Look at what is wished for, and write the recipe to `path`.

    What was looked at before can be given. Raises `UserError` for wishes that can't be granted.
    """
    refuse_existing(path)
    model = model or look_at_model(str(wishes.model), wishes.style)
    data = data or look_at_data(wishes)
    hardware = look_at_hardware(wishes)
    sizes = first_sizes(model, data, hardware)
    test = _tested(test or find_test(wishes, data), wishes, sizes)
    goal = wishes.goal or "zero"
    _check_goal(goal, wishes, model, data)
    path.parent.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        goal, model, sizes, wishes.judge is not None, wishes.teacher and relocated(wishes.teacher, path)
    )
    parts = Parts(path, plan, data, test, hardware, wishes.judge, wishes.judge_url)
    solutions = _solutions(goal, wishes, parts)
    if solutions is not None:
        parts = replace(parts, plan=replace(plan, sft_data=solutions[0]))
    parts, needed = _write(parts)
    return Start(path, decisions(parts, needed, solutions), notes(parts, needed, wishes))


def _write(parts: Parts) -> tuple[Parts, int]:
    """Write the recipe, with the sizes that fit; all or nothing. The bytes that it needs."""
    path = parts.path
    aside = path.with_name(f".{path.stem}.{os.getpid()}.toml")
    try:
        sizes, needed = fit(
            parts.plan.sizes, parts.hardware, lambda tried: _needs(_with(parts, tried), aside)
        )
        parts = _with(parts, sizes)
        aside.write_text(recipe_text(parts), encoding="utf-8")
        load_recipe(aside)
        aside.rename(path)
    except BaseException:
        _solutions_file(path).unlink(missing_ok=True)
        raise
    finally:
        aside.unlink(missing_ok=True)
    return parts, needed


def _with(parts: Parts, sizes: Sizes) -> Parts:
    return replace(parts, plan=replace(parts.plan, sizes=sizes))


def _tested(test: Test, wishes: Wishes, sizes: Sizes) -> Test:
    """The test set; of what is held out by default no more than is evaluated."""
    if test.data is not None or wishes.hold_out is not None:
        return test
    num = min(test.num_held_out, sizes.eval_problems)
    return Test(test.why.replace(f"{test.num_held_out:,}", f"{num:,}", 1), None, num)


def _check_model_name(flag: str, name: str | None) -> None:
    """Raise `UserError` for what the recipe would refuse as a model: neither a folder nor a hub name."""
    if name is None or is_base(name) or is_model_path(Path(name).expanduser()):
        return
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith("."):
        raise UserError(f"{flag} {name}: no such folder, and no hub name (`owner/model`)")


def _check_goal(goal: Goal, wishes: Wishes, model: Model, data: Data) -> None:
    if goal == "distill" and wishes.teacher is None:
        raise UserError(
            "--goal distill needs --teacher MODEL: a folder or hub name whose answers are learnt from"
        )
    for flag, value, only in (
        ("--teacher", wishes.teacher, "distill"),
        ("--sft-data", wishes.sft_data, "sft-then-rl"),
    ):
        if value is not None and goal != only:
            raise UserError(
                f"{flag} is for --goal {only}, and the goal is {goal}; drop it, or change the goal"
            )
    _check_model_name("--teacher", wishes.teacher)
    if wishes.judge_url is None:
        _check_model_name("--judge", wishes.judge)
    elif wishes.judge is None:
        raise UserError(
            f"--judge-url {wishes.judge_url} is of a judge: name it with --judge MODEL, or drop --judge-url"
        )
    if wishes.hold_out is not None and wishes.test is not None:
        raise UserError("--hold-out and --test both say what to evaluate on; drop one of them")
    if goal != "zero" and not model.has_chat_template:
        raise UserError(
            f"{model.name} has no chat template, which fine-tuning needs: add `chat_template` to its "
            "tokenizer_config.json (docs/templates.md), or take --goal zero"
        )
    if wishes.sft_data is not None and not Path(wishes.sft_data).expanduser().is_file():
        raise UserError(f"--sft-data {wishes.sft_data}: no such file")
    if wishes.sft_data is not None and model.tokenizer is not None:
        try:
            load_examples([Path(wishes.sft_data).expanduser()], model.tokenizer, model.context)
        except DataError as error:
            raise UserError(f"--sft-data {error}") from None
    if "judged" in data.kinds and wishes.judge is None:
        raise UserError(
            "no rule can compare the answers of this data (kind judged): name a judge with --judge MODEL "
            "(and --judge-url of its server), or say --kind math, choice or logic"
        )
    if (
        goal in ("full", "sft-then-rl")
        and wishes.sft_data is None
        and not data.kinds <= {"math", "choice", "logic"}
    ):
        raise UserError(
            f"--goal {goal} makes its own data by a cold start, which takes what rules can check, and this "
            f"is {', '.join(sorted(data.kinds))}: give --goal sft-then-rl with --sft-data FILE, or take "
            "--goal zero"
        )


def _solutions(goal: Goal, wishes: Wishes, parts: Parts) -> tuple[str, str] | None:
    """The file of worked solutions for sft-then-rl, and what to say of it; None where there is none."""
    if goal != "sft-then-rl":
        return None
    if wishes.sft_data is not None:
        return relocated(wishes.sft_data, parts.path), f"{wishes.sft_data}, as you said"
    column = solution_column(parts.data)
    if column is None:
        return None
    file = _solutions_file(parts.path)
    if file.exists():
        raise UserError(f"{file} is there already; move it away, or name it with --sft-data")
    without, most = _held_out_questions(parts), parts.plan.sizes.num_solutions
    num, num_all = write_solutions(parts.data, column, file, without=without, most=most)
    of_all = "" if num == num_all else f" of {num_all:,}"
    return file.name, f"{num:,}{of_all} worked solutions from the column {column!r}, written to {file}"


def _solutions_file(path: Path) -> Path:
    return path.with_name(f"{path.stem}-solutions.jsonl")


def _held_out_questions(parts: Parts) -> set[str]:
    """The questions that the recipe's test set will have."""
    if parts.test.data is not None:
        return {question_key(problem) for problem in parts.test.data.problems}
    if not parts.test.num_held_out:
        return set()
    source = ProblemSource(**parts.data.fields | {"num_problems": parts.test.num_held_out, "seed": 1})
    problems = load_problems(source, seed=0, base_dir=Path(), check=verify_problem)
    return {question_key(problem) for problem in problems}


def _needs(parts: Parts, path: Path) -> int:
    """The bytes that the largest stage of the recipe takes, by the estimate of `r1 plan`."""
    sizes, hardware = parts.plan.sizes, parts.hardware
    path.write_text(recipe_text(parts), encoding="utf-8")
    context = RunContext(load_recipe(path), path, writes=False)
    context.dtype = hardware.dtype  # the machine at hand may be another one
    rows = plan_memory(context)
    if all(not row.fault for row in rows):
        return max((row.num_bytes for row in rows), default=0)
    weights = parts.plan.model.num_weights or 7_000_000_000
    each = _BYTES_FROZEN if sizes.lora else _BYTES_TRAINED
    shared = hardware.num if sizes.shard else 1
    return weights * each[hardware.device] // shared + _BYTES_BESIDE
