"""Commands of a recipe: write one, look for its faults, plan what it takes, its schema for editors."""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from r1kit.cli import init_flags as flags
from r1kit.cli.options import (
    OutputOption,
    RecipeArgument,
    SeedOption,
    SetOption,
    StagesOption,
    comma_list,
    on_terminal,
)
from r1kit.errors import UserError


def doctor(recipe: RecipeArgument, seed: SeedOption = None, set_: SetOption = None) -> None:
    """Look for what would go wrong in a run: truths, templates, prompts, rewards, judges."""
    from r1kit import terminal
    from r1kit.pipeline.doctor import examine
    from r1kit.pipeline.run import open_run
    from r1kit.pipeline.shipped import find_recipe

    context = open_run(find_recipe(recipe), seed=seed, settings=set_ or ())
    checks = examine(context)
    warnings = [*context.skipped.values(), *(warning for check in checks for warning in check.warnings)]
    for warning in dict.fromkeys(warnings):
        print(f"warning: {warning}")
    if faults := list(dict.fromkeys(fault for check in checks for fault in check.faults)):
        raise UserError("\n".join(faults))
    Console(highlight=False).print(terminal.check_table([check for check in checks if check.found]))


def plan(
    recipe: RecipeArgument,
    seed: SeedOption = None,
    output: OutputOption = None,
    stages: StagesOption = None,
    no_measure: Annotated[
        bool, typer.Option("--no-measure", help="Memory alone: try no pieces of the work on this machine.")
    ] = False,
    price: Annotated[
        float | None, typer.Option(help="What an hour of one device costs: adds a column of money.")
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(help="Plan for a named GPU by its data sheet (`H100`); measures nothing.")
    ] = None,
    gpus: Annotated[int | None, typer.Option(help="With --gpu: how many of them; 1 by default.")] = None,
    like: Annotated[
        Path | None, typer.Option(help="The folder of an earlier run, whose logged lengths are assumed.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the plan as JSON, and nothing else.")
    ] = False,
    set_: SetOption = None,
) -> None:
    """What each stage will take: memory, time with a range, and money; what is finished counts as done."""
    from r1kit.cli.plan import print_plan, say_that_it_takes_a_while
    from r1kit.pipeline.plan import plan_jobs
    from r1kit.pipeline.planning.estimate import check_price
    from r1kit.pipeline.planning.gpus import find_gpu
    from r1kit.pipeline.run import open_run
    from r1kit.pipeline.shipped import find_recipe
    from r1kit.ranks import launch

    check_price(price)
    found = None if gpu is None else find_gpu(gpu)
    if gpus is not None and found is None:
        raise UserError(f"--gpus {gpus} is of a named GPU: add --gpu, such as --gpu H100.")
    num_gpus, measure = 1 if gpus is None else gpus, found is None and not no_measure
    context = open_run(find_recipe(recipe), seed=seed, output_dir=output, settings=set_ or (), writes=False)
    wanted = comma_list(stages)
    plan_jobs(context.recipe, wanted)  # a stage that is not there is said once, not by every rank
    if measure and not launch.is_rank():
        say_that_it_takes_a_while()  # not by a rank, whose stderr is kept until its end
    if measure and context.recipe.run.processes > 1 and not launch.is_rank():
        # measured as it is run: ranks share the machine's caches and its memory
        raise typer.Exit(launch.run_ranks(context.recipe.run.processes, sys.argv[1:]))
    launch.end_with_launcher()
    print_plan(
        context, wanted, measure=measure, gpu=found, gpus=num_gpus, price=price, like=like, as_json=as_json
    )


def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("recipe.toml"),
    model: flags.ModelFlag = None,
    data: flags.DataFlag = None,
    test: flags.TestFlag = None,
    hold_out: flags.HoldOutFlag = None,
    goal: flags.GoalFlag = None,
    teacher: flags.TeacherFlag = None,
    sft_data: flags.SftDataFlag = None,
    question: flags.QuestionFlag = None,
    answer: flags.AnswerFlag = None,
    options: flags.OptionsFlag = None,
    tests: flags.TestsFlag = None,
    kind: flags.KindFlag = None,
    answer_in: flags.AnswerInFlag = None,
    mapping: flags.MappingFlag = None,
    split: flags.SplitFlag = None,
    subset: flags.SubsetFlag = None,
    judge: flags.JudgeFlag = None,
    judge_url: flags.JudgeUrlFlag = None,
    style: flags.StyleFlag = None,
    device: flags.DeviceFlag = None,
    gpus: flags.GpusFlag = None,
    gpu_memory: flags.GpuMemoryFlag = None,
    yes: flags.YesFlag = False,
    template: flags.TemplateFlag = False,
) -> None:
    """Write a recipe for a model and data of your own: asks, or takes flags, and looks at both.

    Without a terminal and without flags it writes the commented recipe.
    """
    said: list[object] = [
        model, data, test, hold_out, goal, teacher, sft_data, question, answer, options, tests, kind,
        answer_in, mapping, split, subset, judge, judge_url, style, device, gpus, gpu_memory,
    ]  # fmt: skip
    asks = on_terminal() and not yes
    if template or not (asks or yes or any(value is not None for value in said)):
        _write_commented(path)
        return
    from r1kit.cli import starting
    from r1kit.pipeline.starting.wishes import Wishes

    named = {"question": question, "answer": answer, "options": options, "tests": tests}
    columns = {field: name for field, name in named.items() if name is not None}
    wishes = Wishes(
        model=model, data=data, test=test, hold_out=hold_out, teacher=teacher, sft_data=sft_data,
        columns=columns, mapping=mapping, split=split, subset=subset, judge=judge, judge_url=judge_url,
        gpus=gpus, gpu_memory=gpu_memory,
    )  # fmt: skip
    starting.take_words(wishes, goal=goal, kind=kind, answer_in=answer_in, style=style, device=device)
    starting.start(path, wishes, asks=asks)


def _write_commented(path: Path) -> None:
    """The recipe with every usual key and what it is for, to be filled in."""
    from r1kit.pipeline.shipped import OWN_RECIPE, find_recipe

    if path.exists():
        raise UserError(f"{path} is there already; give another name, or move it away.")
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(find_recipe(OWN_RECIPE), path)
    print(f"{path}: name your model and your problems in it, then `r1 run {path}`.")


def schema() -> None:
    """Print the JSON schema of recipes, for editors: keys, types, choices, defaults, what each is for."""
    from r1kit.pipeline.schema import schema_text

    print(schema_text(), end="")


def import_model(
    source: Annotated[Path, typer.Argument(help="A GGUF file.")],
    folder: Annotated[Path, typer.Argument(help="The new folder for the model.")],
    tokenizer: Annotated[
        str | None, typer.Option(help="Take it from this folder or hub name, not from the file.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Precision of the weights: float32 or bfloat16.")] = "float32",
) -> None:
    """Write a GGUF file as an ordinary model folder, its tokenizer and template checked."""
    from r1kit.model.gguf import import_gguf

    made = import_gguf(source, folder, tokenizer=tokenizer, dtype=dtype)
    for subject, finding in made.found:
        print(f"{subject}: {finding}")
    print(f"Written to {made.folder}; name it as `base` in a recipe.")
