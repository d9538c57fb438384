"""What `r1 plan` prints: memory, time and money of every stage, or all of it as JSON."""

import dataclasses
import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from r1kit import terminal
from r1kit.errors import UserError
from r1kit.pipeline.architecture import slower_samplers
from r1kit.pipeline.context import RunContext
from r1kit.pipeline.memory import StageMemory, device_bytes, format_bytes, plan_memory
from r1kit.pipeline.planning.estimate import Plan, StageTime, cost_of, plan_here, plan_on_gpus
from r1kit.pipeline.planning.gpus import Gpu
from r1kit.pipeline.planning.measure import SECONDS
from r1kit.ranks import collectives

LEFT_OUT = (
    "The time leaves out: starting the program and its checks, judges and teachers, human review, "
    "checkpoints, downloads, repeated failures, and other programs on this machine."
)
# Where a length is from, as it is said; `{}` is the model that was sampled, or the run.
_SOURCES = {
    "logged": "as logged here",
    "earlier run": "as {} logged",
    "sampled": "sampled",
    "sampled from its ancestor": "sampled from {}, which it starts from",
    "guessed": "a third of the limit, a guess",
}


def say_that_it_takes_a_while() -> None:
    """One line on stderr, before anything is measured."""
    print(f"Measuring for about {SECONDS:.0f} seconds; --no-measure leaves it out.", file=sys.stderr)


def print_plan(
    context: RunContext,
    stages: Collection[str] | None,
    *,
    measure: bool,
    gpu: Gpu | None,
    gpus: int,
    price: float | None,
    like: Path | None,
    as_json: bool,
) -> None:
    """Plan, on all ranks where it is measured, and print it from the first one."""
    plan: Plan | None = None
    if gpu is not None:
        plan = plan_on_gpus(context, gpu, gpus, stages, like=like)
    elif measure:
        collectives.init(context.device)
        plan = plan_here(context, stages, like=like)
    elif price is not None:
        raise UserError("--price needs a time: leave out --no-measure, or name a --gpu.")
    if not collectives.is_main():
        return
    memory = plan_memory(context, stages)
    if as_json:
        print(json.dumps(_rows(memory, plan, price), indent=1))
        return
    console = Console(highlight=False)
    if gpu is None:
        _print_memory(console, context, memory, stages)
    if plan is not None:
        console.print(LEFT_OUT, soft_wrap=True)
        console.print(time_table(plan, price=price))
        console.print(assumed_text(plan), soft_wrap=True)


def _print_memory(
    console: Console, context: RunContext, memory: list[StageMemory], stages: Collection[str] | None
) -> None:
    console.print(terminal.memory_table(memory))
    for note in slower_samplers(context, stages):
        console.print(note, soft_wrap=True)
    has = device_bytes(context.device)
    room = "" if has is None else f", which has {format_bytes(has)}"
    console.print(
        f"Estimates for each process on {context.device}{room}, in {context.dtype}. If that is too much: "
        "gradient_checkpointing = true, a lora table, fewer tokens_per_micro_batch or engine.max_rows.",
        soft_wrap=True,
    )


def time_table(plan: Plan, *, price: float | None = None) -> Table:
    """Every job with its state, the time to come, from and to, the money, and what was counted."""
    table = Table(title=None, box=None, pad_edge=False, header_style="bold")
    headers = [
        "stage",
        "kind",
        "state",
        "time",
        "from",
        "to",
        *(["cost"] if price is not None else []),
        "what",
    ]
    for header in headers:
        right = header in ("time", "from", "to", "cost")
        table.add_column(header, justify="right" if right else "left", no_wrap=header != "what")

    def cells(seconds: float, low: float, high: float) -> list[str]:
        money = [] if price is None else [f"{cost_of(seconds, price=price, devices=plan.devices):,.2f}"]
        return [_clock(seconds), _clock(low), _clock(high), *money]

    for row in plan.stages:
        if row.state == "done":
            told = [_clock(row.spent), *[""] * (len(headers) - 5)]
            table.add_row(row.name, row.kind, row.state, *told, "", style="dim")
        elif row.seconds is None:
            table.add_row(row.name, row.kind, row.state, "?", *[""] * (len(headers) - 5), row.why)
        else:
            table.add_row(row.name, row.kind, row.state, *cells(row.seconds, row.low, row.high), _what(row))
    if plan.stages and all(row.state != "done" and row.seconds is None for row in plan.stages):
        table.add_row("all", "", "to come", "?", *[""] * (len(headers) - 4), style="bold")
        return table
    limit = f"{_clock(plan.total('at_limit'))} if every completion were cut off at its limit"
    total = cells(plan.total(), plan.total("low"), plan.total("high"))
    table.add_row("all", "", "to come", *total, limit, style="bold")
    return table


def assumed_text(plan: Plan) -> str:
    """What the times were measured on, and what was assumed, a sentence each."""
    fast = "" if plan.devices == 1 else f"; a cost is for all {plan.devices} devices"
    unknown = [stage.name for stage in plan.stages if stage.seconds is None]
    lines = [f"Times on {plan.on}{fast}.", *plan.notes]
    if unknown:
        lines.append(f"Not in the sum: {', '.join(unknown)}.")
    return "\n".join(lines)


def _what(row: StageTime) -> str:
    work = row.work or {}
    parts = []
    if work.get("completions"):
        source = ""
        if row.length is not None:
            told = _SOURCES[row.length.source].format(row.length.of)
            source = f" of {row.length.tokens:,.0f} tokens ({told})"
        parts.append(f"{work['completions']:,} completions{source}")
    if work.get("updates"):
        parts.append(f"{work['updates']:,} updates on {work['trained_tokens']:,} tokens")
    return "; ".join(parts)


def _clock(seconds: float) -> str:
    return terminal.clock(seconds) if seconds < 360_000 else f"{seconds / 3600:,.0f} h"


def _rows(memory: list[StageMemory], plan: Plan | None, price: float | None) -> dict[str, Any]:
    """The plan as plain values: seconds, bytes, money."""
    found: dict[str, Any] = {
        "memory": [{"stage": row.stage, "peak_bytes": row.num_bytes, "fault": row.fault} for row in memory]
    }
    if plan is not None:
        found |= {"on": plan.on, "devices": plan.devices, "notes": plan.notes}
        found["stages"] = [dataclasses.asdict(stage) for stage in plan.stages]
        found["seconds"] = {
            name: plan.total(name) for name in ("seconds", "low", "high", "at_limit", "spent")
        }
        if price is not None:
            found["cost"] = {
                name: cost_of(plan.total(name), price=price, devices=plan.devices)
                for name in ("seconds", "low", "high", "at_limit")
            }
    return found
