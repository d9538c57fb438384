"""Commands for runs: run, status, evaluate, report, sample."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from r1kit.cli.options import (
    OutputOption,
    RecipeArgument,
    SeedOption,
    SetOption,
    StagesOption,
    comma_list,
    complete_recipe,
    prompt_style,
    seed_list,
)
from r1kit.errors import UserError


def run(
    recipe: RecipeArgument,
    seed: SeedOption = None,
    seeds: Annotated[str | None, typer.Option(help="Several runs, each in its own folder: `0,1,2`.")] = None,
    output: OutputOption = None,
    stages: StagesOption = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Ranks on this machine; overrides the recipe's run.processes.")
    ] = None,
    set_: SetOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the resolved recipe and what would run.")
    ] = False,
) -> None:
    """Run a recipe: stages, evaluation, report. Skips what is done, and resumes a stopped run."""
    from r1kit.pipeline.recipe_file import processes_of, read_recipe_file
    from r1kit.pipeline.shipped import find_recipe
    from r1kit.ranks import launch

    if seed is not None and seeds is not None:
        raise UserError("give --seed or --seeds, not both.")
    path, settings = find_recipe(recipe), set_ or []
    if dry_run:
        if seeds is not None:
            raise UserError("--dry-run shows one run: give --seed, not --seeds.")
        from r1kit.pipeline.dry_run import dry_run_text

        print(dry_run_text(path, settings, seed=seed, output_dir=output, stages=comma_list(stages)))
        return
    # ranks are started before the recipe is validated: each rank validates it, and a fault is shown once
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
    from r1kit import terminal
    from r1kit.pipeline.expected_time import expect_time
    from r1kit.pipeline.run import open_run, run_recipe
    from r1kit.ranks import collectives, launch
    from r1kit.report import combine_runs, stage_table_markdown

    console = Console(highlight=False)
    runs: list[tuple[int | None, Path | None]] = [(seed, output)]
    # the expected time is that of one complete run
    if seeds is None and stages is None and launch.is_first_rank():
        context = open_run(path, seed=seed, output_dir=output, settings=settings, writes=False)
        if expected := expect_time(context, num_ranks=launch.world_size()):
            console.print(terminal.expectation_line(context.recipe.run.name, expected), soft_wrap=True)
    if seeds is not None:
        root = open_run(path, output_dir=output, settings=settings).folder.path
        runs = [(number, root / f"seed-{number}") for number in seed_list(seeds)]
    for run_seed, folder in runs:
        if seeds is not None and launch.is_first_rank():
            console.print(f"Seed {run_seed}, in {folder}", style="bold")
        with terminal.progress_on(console) as progress:
            result = run_recipe(
                path,
                seed=run_seed,
                output_dir=folder,
                stages=comma_list(stages),
                settings=settings,
                progress=progress,
            )
        if not collectives.is_main():  # every rank runs every seed; only the first one prints
            continue
        console.print(terminal.status_table(result.rows))
        if result.report is not None:
            console.print(f"\n{stage_table_markdown(result.folder)}", markup=False, soft_wrap=True)
            console.print(f"Report: {result.report}", soft_wrap=True)
        console.print(f"Done in {terminal.clock(result.seconds)}.")
    if collectives.is_main():
        context = open_run(path, seed=runs[-1][0], output_dir=runs[-1][1], settings=settings)
        console.print(terminal.next_steps_text(context.recipe, result.folder, result.report), soft_wrap=True)
    folders = [folder for _, folder in runs if folder is not None]
    if len(folders) > 1 and collectives.is_main() and result.report is not None:
        console.print(f"\n{combine_runs(folders).markdown}", markup=False, soft_wrap=True)


def status(
    recipe: RecipeArgument,
    seed: SeedOption = None,
    output: OutputOption = None,
    stages: StagesOption = None,
    set_: SetOption = None,
) -> None:
    """Show which stages are done, stale (and why), in progress, or to do."""
    from r1kit import terminal
    from r1kit.pipeline.lock import lock_holder
    from r1kit.pipeline.run import open_run
    from r1kit.pipeline.shipped import find_recipe
    from r1kit.pipeline.status import run_status

    context = open_run(find_recipe(recipe), seed=seed, output_dir=output, settings=set_ or ())
    console = Console(highlight=False)
    holder = lock_holder(context.folder.path)
    at_work = f" (running: process {holder})" if holder is not None else ""
    console.print(f"{context.folder.path}{at_work}", style="bold", soft_wrap=True)
    console.print(terminal.status_table(run_status(context, stages=comma_list(stages))))


def evaluate(
    recipe: Annotated[
        str,
        typer.Argument(
            help="The recipe whose [eval] table and problems are used.", autocompletion=complete_recipe
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
    """Evaluate the finished stages of a run, or any model on a recipe's problems."""
    from r1kit import terminal
    from r1kit.pipeline.evaluation import evaluate_any, evaluate_stages
    from r1kit.pipeline.shipped import find_recipe
    from r1kit.report import stage_table_markdown

    console = Console(highlight=False)
    with terminal.progress_on(console) as progress:
        if model is None:
            folder = evaluate_stages(
                find_recipe(recipe), seed=seed, output_dir=output, settings=set_ or (), progress=progress
            )
        else:
            folder = evaluate_any(
                find_recipe(recipe),
                model,
                style=prompt_style(style),
                seed=seed,
                output_dir=output,
                settings=set_ or (),
                progress=progress,
            )
    console.print(stage_table_markdown(folder), markup=False, soft_wrap=True)


def report(
    run_dirs: Annotated[list[Path], typer.Argument(help="A run's folder, or several of the same recipe.")],
) -> None:
    """Write a run's report again from the files in its folder; for several runs, print one table."""
    from r1kit.pipeline.run import read_run_record
    from r1kit.report import ReportConfig, combine_runs, write_report

    if len(run_dirs) > 1:
        print(combine_runs(run_dirs).markdown)
    else:
        print(write_report(run_dirs[0], ReportConfig(**read_run_record(run_dirs[0])["report"])))


def sample(
    where: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|RUN_DIR",
            help="A recipe, or a run's folder.",
            autocompletion=complete_recipe,
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
    """Talk to the model of any stage; its reasoning is dimmed."""
    from r1kit.pipeline.chat import chat, open_speaker
    from r1kit.sampling.engine import SamplingParams

    speaker = open_speaker(where, stage, None if style is None else prompt_style(style))
    params = SamplingParams(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        stop_token_ids=speaker.stop_token_ids,
    )
    chat(speaker, Console(highlight=False), params, seed=seed, prompt=prompt)
