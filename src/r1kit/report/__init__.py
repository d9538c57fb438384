"""The report of a run: one self-contained page, the stage table as text, and several runs combined.

The page loads nothing: its styles are inline and its charts are inline SVG. It is made from the run's folder
alone, so it can be made again at any time, even for an unfinished run; whatever is missing is left out.
"""

import os
from collections.abc import Callable
from functools import partial
from html import escape
from importlib import resources
from pathlib import Path

from r1kit.config import Config
from r1kit.data.guests import guests_on
from r1kit.report.combine import CombinedRuns, combine_runs
from r1kit.report.comparisons import comparisons_section
from r1kit.report.data import data_section
from r1kit.report.flow import flow_picture
from r1kit.report.reader import RunData, read_run
from r1kit.report.sections import (
    alarms_section,
    curves_section,
    facts_section,
    judges_section,
    manifests_section,
    table_section,
    times_section,
)
from r1kit.report.table import stage_table_markdown
from r1kit.report.transcripts import transcripts_section

__all__ = [
    "CombinedRuns",
    "ReportConfig",
    "combine_runs",
    "report_page",
    "stage_table_markdown",
    "title_of",
    "write_report",
]

REPORT_NAME = "report.html"
Guard = Callable[[str, Callable[[], str]], str]
"""Makes a section, given its name and what makes it: its HTML, or HTML that says why there is none."""

_WHAT = (
    "DeepSeek-R1's recipe, run for real: every completion was sampled from the model at hand, every reward "
    "computed from it, every update changed its weights."
)


class ReportConfig(Config):
    """The report's settings. `title`: the heading of the page."""

    title: str = ""  # stands over the page


def write_report(run_dir: Path, config: ReportConfig | None = None) -> Path:
    """Write `run_dir`/report.html and return its path. Raises `DataError` if the folder has no stage."""
    run = read_run(run_dir)
    path = run_dir / REPORT_NAME
    aside = path.with_name(f".{REPORT_NAME}.{os.getpid()}.tmp")
    aside.write_text(report_page(run, title_of(run, config)), encoding="utf-8")
    aside.replace(path)
    return path


def title_of(run: RunData, config: ReportConfig | None) -> str:
    """The page's heading: the recipe's own, else one after the run's folder."""
    own = config.title if config is not None else ""
    return own or f"{run.folder.resolve().name}: base to R1"


def report_page(run: RunData, title: str, guard: Guard | None = None) -> str:
    """The page as text. `guard` makes each section, for whoever can't stop at one that is damaged."""
    sections = [
        ("route", "The route", flow_picture),
        ("table", "The stages in numbers", table_section),
        ("differences", "Differences and controls", comparisons_section),
        ("curves", "Learning curves", curves_section),
        ("alarm", "Alarms", alarms_section),
        ("data", "Data", data_section),
        ("transcripts", "The same problems through all stages", transcripts_section),
        ("built-in", "What is built in", _built_in),
        ("judges", "Judges", judges_section),
        ("times", "Times", times_section),
        ("manifests", "Configuration and manifests", manifests_section),
    ]
    made = [
        (anchor, name, guard(name, partial(make, run)) if guard else make(run))
        for anchor, name, make in sections
    ]
    shown = [section for section in made if section[2]]
    facts = guard("Facts", partial(facts_section, run)) if guard else facts_section(run)
    links = "".join(f'<a href="#{anchor}">{escape(name)}</a>' for anchor, name, _ in shown)
    body = "".join(
        f'<section id="{anchor}"><h2>{escape(name)}</h2>{html}</section>' for anchor, name, html in shown
    )
    style = resources.files("r1kit.report").joinpath("page.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>'
        f'<body><main><header><h1>{escape(title)}</h1><p class="lead">{escape(_WHAT)}</p>{facts}'
        f"<nav>{links}</nav></header>{body}"
        "<footer>Written by r1kit from the run's own folder.</footer></main></body></html>\n"
    )


def _built_in(run: RunData) -> str:
    """What guests say of their models, where the path of an evaluated one leads to one of theirs."""
    paths = [str(evaluation.summary.get("model", "")) for evaluation in run.evals.values()]
    return "".join(f"<p>{guest.built_in}</p>" for guest in guests_on(paths) if guest.built_in)
