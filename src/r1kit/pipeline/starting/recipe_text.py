"""The recipe of `r1 init` as text: short, in the order of `recipes/own.toml`, with reasons beside choices."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1kit.pipeline.starting.data import Data, makes_its_own
from r1kit.pipeline.starting.hardware import Hardware
from r1kit.pipeline.starting.held_out import Test
from r1kit.pipeline.starting.lines import header, joined, line, wrapped
from r1kit.pipeline.starting.stages import JUDGE, Plan, stage_lines
from r1kit.pipeline.starting.wishes import GOALS

# In the order in which a recipe has them.
_FIELDS = (
    "mapping",
    "split",
    "subset",
    "kind",
    "columns",
    "answer_in",
    "num_problems",
    "seed",
    "on_bad",
    "without",
)


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that the recipe is written from. `folder` is where it will lie: its paths start there."""

    path: Path
    plan: Plan
    data: Data
    test: Test
    hardware: Hardware
    judge: str | None = None
    judge_url: str | None = None

    @property
    def name(self) -> str:
        """The run's name."""
        return "".join(char if char.isalnum() or char in "-_" else "-" for char in self.path.stem) or "mine"

    @property
    def num_tested(self) -> int:
        """How many problems are evaluated on; 0: no evaluation."""
        if self.test.data is None:
            return self.test.num_held_out
        return min(len(self.test.data.problems), self.plan.sizes.eval_problems)


def recipe_text(parts: Parts) -> str:
    """The whole file."""
    return joined(_lines(parts))


def _lines(parts: Parts) -> Iterator[str]:
    plan, data = parts.plan, parts.data
    about = f"{plan.model.short_name} on {Path(str(data.fields['source'])).name}, written by `r1 init`."
    goal = GOALS[plan.goal]
    yield from wrapped(f"{about} {goal[0].upper()}{goal[1:]}.")
    yield "#"
    yield from wrapped(
        f"Sizes are a start for {parts.hardware}; numbers in brackets are the paper's (arXiv 2501.12948: "
        "[v1], [v2]). Paths start at this file's folder, except output_dir. `r1 schema` has every key."
    )
    yield header("run")
    yield line("name", parts.name)
    yield line("output_dir", f"runs/{parts.name}")
    yield line("seed", 0)
    if parts.hardware.num > 1:
        yield line("processes", parts.hardware.num, "one for each GPU")
    if plan.sizes.shard:
        yield line("shard", True, "each keeps its part only of what is trained")
    yield header("model")
    yield line("base", relocated(plan.model.name, parts.path), plan.model.unseen or plan.model.why)
    yield line("dtype", "auto", "bf16-mixed (float32 masters) on a GPU, float32 on a CPU")
    yield line("device", "cpu" if parts.hardware.avoids_gpu else "auto", "auto: cuda where there is one")
    yield header("engine")
    yield line("max_rows", plan.sizes.max_rows, "completions sampled at a time; no effect on what they are")
    yield from _problems(parts)
    if parts.judge is not None:
        yield header(f"judges.{JUDGE}", "for answers that no rule can compare (docs/rewards.md)")
        yield line("model", relocated(parts.judge, parts.path))
        if parts.judge_url is not None:
            yield line("base_url", parts.judge_url, "its key: api_key_env, by default OPENAI_API_KEY")
    yield from stage_lines(plan)
    if parts.num_tested:
        yield from _evaluation(parts)


def _problems(parts: Parts) -> Iterator[str]:
    data, test = parts.data, parts.test
    fields = dict(data.fields)
    if test.data is None and test.num_held_out:
        fields["without"] = ["test"]
    elif test.data is not None and "split" in test.data.fields | fields:
        is_same = test.data.fields["source"] == fields["source"]
        fields |= {"split": "train"} if is_same and "split" not in fields else {}
    yield header("problems.train")
    yield from _source(fields, data, parts.path)
    if not parts.num_tested:
        return
    yield header("problems.test", test.why)
    held_out = {"num_problems": parts.num_tested, "seed": 1}
    if test.data is None:
        yield from _source(data.fields | held_out, data, parts.path)
    else:
        is_all = parts.num_tested == len(test.data.problems) and not test.data.is_made
        yield from _source(test.data.fields | ({} if is_all else held_out), test.data, parts.path)


def _source(fields: dict[str, Any], data: Data, path: Path) -> Iterator[str]:
    source = str(fields["source"])
    made = makes_its_own(source)
    yield line(
        "source", source if made else relocated(source, path), "" if made else f"{data.num_rows:,} rows"
    )
    comments = {
        "mapping": data.why,
        "num_problems": "a random choice" if not made else "made, as many as are asked for",
        "seed": "the same ones in every run",
        "on_bad": f"{data.num_left_out:,} rows can't be used"
        if data.num_left_out
        else "rows that can't be verified",
        "without": "its questions are never trained on",
        "answer_in": "the column holds solutions; the answer is in them",
    }
    for name in _FIELDS:
        if name in fields:
            yield line(name, fields[name], comments.get(name, ""))


def _evaluation(parts: Parts) -> Iterator[str]:
    plan = parts.plan
    yield header("eval")
    yield line("problems", ["test"])
    yield line("samples", plan.sizes.eval_samples, "of each problem [8 to 64: v2 D.1]")
    yield line("max_new_tokens", plan.sizes.max_new_tokens)
    if parts.judge is not None:
        yield line("judge", JUDGE)
    if plan.model.style == "chat":
        yield line("styles", {"base": "chat"}, "how the base is asked; as in training")


def relocated(name: str, path: Path) -> str:
    """A path from the current folder as it reads from the recipe's; any other name as it is."""
    typed = Path(name).expanduser()
    is_path = typed.exists() or (any(char in typed.name for char in "*?[") and typed.parent.is_dir())
    if name.startswith("~") or typed.is_absolute() or not is_path:
        return name
    found = os.path.relpath(typed.absolute(), path.absolute().parent)
    return f"./{found}" if name.startswith("./") and not found.startswith("..") else found
