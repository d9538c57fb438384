"""The `r1` command.

What the user can mend is one sentence and exit code 2; a run that was stopped says how to go on and exits
with 130. Anything else is a bug, and keeps its traceback. Torch and transformers are imported by the
commands that need them: `r1 --help` answers at once.
"""

import errno
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from r1kit.errors import UserError
from r1kit.types import PromptStyle

USER_ERROR, INTERRUPTED = 2, 130

# What the machine refuses, as opposed to a file that a bug of ours did not write.
_MACHINE_ERRORS = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "no permission",
    errno.EPERM: "not permitted",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the disk reports an error",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files on this machine",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.ENOMEM: "out of memory",
}

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
tinyworld_app = typer.Typer(help="The embedded small world.", no_args_is_help=True)
app.add_typer(tinyworld_app, name="tinyworld")


def _recipes_like(incomplete: str) -> list[str]:
    from r1kit.pipeline.shipped import recipes_like

    return recipes_like(incomplete)


def _print_version(wanted: bool) -> None:
    if wanted:
        from r1kit import __version__

        print(f"r1kit {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it and end.")
    ] = False,
) -> None:
    """DeepSeek-R1's recipe, whole: from a base model to R1, with the evaluation and the report."""


RecipeArgument = Annotated[
    str,
    typer.Argument(
        help="A recipe file, or the name of a shipped one (`tiny`).", autocompletion=_recipes_like
    ),
]
SeedOption = Annotated[int | None, typer.Option(help="In place of the recipe's run.seed.")]
OutputOption = Annotated[Path | None, typer.Option(help="In place of the recipe's run.output_dir.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Another value for this run: `stages.zero.steps=20`. Repeatable."
    ),
]
StagesOption = Annotated[
    str | None, typer.Option(help="Only these stages, and those they depend on: `zero,dev1`.")
]


@app.command()
def run(
    recipe: RecipeArgument,
    seed: SeedOption = None,
    seeds: Annotated[str | None, typer.Option(help="Several runs: `0,1,2`, each in its own folder.")] = None,
    output: OutputOption = None,
    stages: StagesOption = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Ranks on this machine, in place of the recipe's run.processes.")
    ] = None,
    set_: SetOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the recipe as it is understood, and what would run.")
    ] = False,
) -> None:
    """Run a recipe: stages, evaluation, report. What is done is skipped, a stopped run goes on."""
    from r1kit import launch
    from r1kit.pipeline.recipe_file import processes_of, read_recipe_file
    from r1kit.pipeline.shipped import find_recipe

    if seed is not None and seeds is not None:
        raise UserError("give --seed or --seeds, not both.")
    path, settings = find_recipe(recipe), set_ or []
    if dry_run:
        if seeds is not None:
            raise UserError("--dry-run is of one run: give --seed, not --seeds.")
        from r1kit.pipeline.dry_run import dry_run_text

        print(dry_run_text(path, settings, seed=seed, output_dir=output, stages=_names(stages)))
        return
    table, _ = read_recipe_file(path, settings)
    num_ranks = processes or processes_of(table)
    if num_ranks > 1 and not launch.is_rank():
        raise typer.Exit(launch.run_ranks(num_ranks, sys.argv[1:]))
    launch.end_with_launcher()
    _run(path, settings, seed=seed, seeds=seeds, output=output, stages=stages)


def _run(
    path: Path,
    settings: list[str],
    *,
    seed: int | None,
    seeds: str | None,
    output: Path | None,
    stages: str | None,
) -> None:
    from r1kit import distributed, launch, ui
    from r1kit.pipeline.expected_time import expect_time
    from r1kit.pipeline.run import open_run, run_recipe
    from r1kit.report import combine_runs, stage_table_markdown

    console = Console(highlight=False)
    runs: list[tuple[int | None, Path | None]] = [(seed, output)]
    if seeds is None and stages is None and launch.is_first_rank():
        context = open_run(path, seed=seed, output_dir=output, settings=settings, writes=False)
        if expected := expect_time(context, num_ranks=launch.world_size()):
            console.print(ui.expectation_line(context.recipe.run.name, expected), soft_wrap=True)
    if seeds is not None:
        root = open_run(path, output_dir=output, settings=settings).folder.path
        runs = [(number, root / f"seed-{number}") for number in _numbers(seeds)]
    for run_seed, folder in runs:
        if seeds is not None and launch.is_first_rank():
            console.print(f"Seed {run_seed}, in {folder}", style="bold")
        with ui.progress_on(console) as progress:
            result = run_recipe(
                path,
                seed=run_seed,
                output_dir=folder,
                stages=_names(stages),
                settings=settings,
                progress=progress,
            )
        if not distributed.is_main():
            continue
        console.print(ui.status_table(result.rows))
        if result.report is not None:
            console.print(f"\n{stage_table_markdown(result.folder)}", markup=False, soft_wrap=True)
            console.print(f"Report: {result.report}", soft_wrap=True)
        console.print(f"Done in {ui.clock(result.seconds)}.")
    if distributed.is_main():
        context = open_run(path, seed=runs[-1][0], output_dir=runs[-1][1], settings=settings)
        console.print(ui.next_steps_text(context.recipe, result.folder, result.report), soft_wrap=True)
    folders = [folder for _, folder in runs if folder is not None]
    if len(folders) > 1 and distributed.is_main() and result.report is not None:
        console.print(f"\n{combine_runs(folders).markdown}", markup=False, soft_wrap=True)


@app.command()
def status(
    recipe: RecipeArgument,
    seed: SeedOption = None,
    output: OutputOption = None,
    stages: StagesOption = None,
    set_: SetOption = None,
) -> None:
    """What of a recipe is done, stale (and why), in progress, or to do."""
    from r1kit import ui
    from r1kit.pipeline.lock import lock_holder
    from r1kit.pipeline.run import open_run
    from r1kit.pipeline.shipped import find_recipe
    from r1kit.pipeline.status import run_status

    context = open_run(find_recipe(recipe), seed=seed, output_dir=output, settings=set_ or ())
    console = Console(highlight=False)
    holder = lock_holder(context.folder.path)
    at_work = f" (at work: process {holder})" if holder is not None else ""
    console.print(f"{context.folder.path}{at_work}", style="bold", soft_wrap=True)
    console.print(ui.status_table(run_status(context, stages=_names(stages))))


@app.command()
def doctor(recipe: RecipeArgument, seed: SeedOption = None, set_: SetOption = None) -> None:
    """Look for what would go wrong in a run: truths, templates, prompts, rewards, judges."""
    from r1kit import ui
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
    Console(highlight=False).print(ui.check_table([check for check in checks if check.found]))


@app.command()
def plan(recipe: RecipeArgument, stages: StagesOption = None, set_: SetOption = None) -> None:
    """How much memory each training stage will need, and what for; nothing is loaded or refused."""
    from r1kit import ui
    from r1kit.pipeline.architecture import slower_samplers
    from r1kit.pipeline.memory import device_bytes, format_bytes, plan_memory
    from r1kit.pipeline.run import open_run
    from r1kit.pipeline.shipped import find_recipe

    context, console = open_run(find_recipe(recipe), settings=set_ or ()), Console(highlight=False)
    console.print(ui.memory_table(plan_memory(context, _names(stages))))
    for note in slower_samplers(context, _names(stages)):
        console.print(note, soft_wrap=True)
    has = device_bytes(context.device)
    room = "" if has is None else f", which has {format_bytes(has)}"
    console.print(
        f"Estimates for each process on {context.device}{room}, in {context.dtype}. Where it is too much: "
        "gradient_checkpointing = true, a lora table, fewer tokens_per_micro_batch or engine.max_rows.",
        soft_wrap=True,
    )


@app.command("eval")
def evaluate(
    recipe: Annotated[
        str,
        typer.Argument(
            help="The recipe whose [eval] table and problems are used.", autocompletion=_recipes_like
        ),
    ] = "tiny",
    model: Annotated[
        str | None, typer.Option(help="Evaluate this folder or hub name, not the run's own stages.")
    ] = None,
    style: Annotated[str, typer.Option(help="With --model: how to prompt it, `zero` or `chat`.")] = "chat",
    seed: SeedOption = None,
    output: OutputOption = None,
    set_: SetOption = None,
) -> None:
    """Evaluate the stages of a run that are done, or any model on a recipe's problems."""
    from r1kit import ui
    from r1kit.pipeline.evaluation import evaluate_any, evaluate_stages
    from r1kit.pipeline.shipped import find_recipe
    from r1kit.report import stage_table_markdown

    console = Console(highlight=False)
    with ui.progress_on(console) as progress:
        if model is None:
            folder = evaluate_stages(
                find_recipe(recipe), seed=seed, output_dir=output, settings=set_ or (), progress=progress
            )
        else:
            folder = evaluate_any(
                find_recipe(recipe),
                model,
                style=_style(style),
                seed=seed,
                output_dir=output,
                settings=set_ or (),
                progress=progress,
            )
    console.print(stage_table_markdown(folder), markup=False, soft_wrap=True)


@app.command()
def report(
    run_dirs: Annotated[list[Path], typer.Argument(help="A run's folder; or several, of the same recipe.")],
) -> None:
    """Write a run's report again from what lies in its folder; of several runs, print one table."""
    from r1kit.pipeline.run import read_run_record
    from r1kit.report import ReportConfig, combine_runs, write_report

    if len(run_dirs) > 1:
        print(combine_runs(run_dirs).markdown)
    else:
        print(write_report(run_dirs[0], ReportConfig(**read_run_record(run_dirs[0])["report"])))


@app.command()
def sample(
    where: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|RUN_DIR",
            help="A recipe, or a run's folder.",
            autocompletion=_recipes_like,
        ),
    ],
    stage: Annotated[str, typer.Argument(help="A stage with a model, or `base`.")],
    prompt: Annotated[str | None, typer.Argument(help="One question; without it, a conversation.")] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.6,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0, help="The share of probability kept.")] = 0.95,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 512,
    style: Annotated[
        str | None, typer.Option(help="`zero` or `chat`; by default as the model was trained.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same answer.")] = 0,
) -> None:
    """Talk to any stage; the reasoning is dimmed."""
    from r1kit.engines.base import SamplingParams
    from r1kit.pipeline.chat import chat, open_speaker

    speaker = open_speaker(where, stage, None if style is None else _style(style))
    params = SamplingParams(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        stop_token_ids=speaker.stop_token_ids,
    )
    chat(speaker, Console(highlight=False), params, seed=seed, prompt=prompt)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("recipe.toml"),
) -> None:
    """Write a commented recipe for a model and problems of your own."""
    from r1kit.pipeline.shipped import OWN_RECIPE, find_recipe

    if path.exists():
        raise UserError(f"{path} is there already; give another name, or move it away.")
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(find_recipe(OWN_RECIPE), path)
    print(f"{path}: name your model and your problems in it, then `r1 run {path}`.")


@app.command()
def schema() -> None:
    """Print the JSON schema of recipes, for editors: keys, types, choices, defaults, what each is for."""
    from r1kit.pipeline.schema import schema_text

    print(schema_text(), end="")


@tinyworld_app.command("build")
def build_tinyworld(
    output: Annotated[
        Path | None, typer.Option(help="Where the checkpoints go; by default where r1kit looks.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed, another world.")] = 0,
    only: Annotated[str | None, typer.Option(help="`base`, `small` or `code`.")] = None,
) -> None:
    """Make corpus, tokenizer and base models again from a seed."""
    import logging

    from r1kit.tinyworld.build import MODELS, build, default_output

    if only is not None and only not in MODELS:
        raise UserError(f"--only {only}: should be one of {', '.join(MODELS)}.")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    build(output or default_output(), seed=seed, only=only)


def main() -> None:
    """The entry point: exit codes 0, 2 (the user can mend it) and 130 (stopped)."""
    from r1kit.pipeline.interrupt import RunInterrupted

    # the console is ours: what a library has to warn of is checked where the model is loaded
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        app()
    except UserError as error:
        _fail(str(error), USER_ERROR)
    except RunInterrupted as error:
        command = shlex.join(["r1", *sys.argv[1:]])
        _fail(f"{error} Nothing is lost; `{command}` goes on from there.", INTERRUPTED)
    except OSError as error:
        if error.errno not in _MACHINE_ERRORS:
            raise
        place = f"{error.filename}: " if error.filename else ""
        again = "Nothing that was finished is lost; run the same command again to go on."
        _fail(f"{place}{_MACHINE_ERRORS[error.errno]}. {again}", USER_ERROR)


def _fail(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name for part in text.split(",") if (name := part.strip())]


def _style(text: str) -> PromptStyle:
    if text not in ("zero", "chat"):
        raise UserError(f"--style {text}: should be zero or chat.")
    return "zero" if text == "zero" else "chat"


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--seeds {text}: should be numbers with commas, such as 0,1,2.") from None
