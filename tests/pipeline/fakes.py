"""A recipe of four stages whose work is faked: each writes what it was given, so outputs follow inputs."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r1kit.pipeline.run import RunResult, run_recipe
from r1kit.stage import StageContext

RECIPE = """\
[run]
name = "fake"
output_dir = "OUT"

[model]
base = "base_model"
device = "cpu"

[problems.sums]
source = "sums.jsonl"
columns = { question = "q", answer = "a" }

[stages.dev2]
kind = "grpo"
model = "dev1"
prompt_style = "chat"
problems = { sums = 1.0 }
rewards = { accuracy = 1.0 }
steps = 3
problems_per_step = 2
mini_batches = 1

[stages.zero]
kind = "grpo"
model = "base"
prompt_style = "zero"
problems = { sums = 1.0 }
rewards = { accuracy = 1.0, format = 1.0 }
steps = 3
problems_per_step = 2
mini_batches = 1

[stages.cold]
kind = "cold_start"

[[stages.cold.sources]]
kind = "samples"
model = "zero"
problems = "sums"

[stages.dev1]
kind = "sft"
model = "base"
data = "cold"
epochs = 2
"""


@dataclass
class Notes:
    """Progress that keeps what it was told."""

    notes: list[str] = field(default_factory=list)

    def start(self, stage: str, total: int, unit: str) -> None: ...

    def step(self, done: int, row: Any) -> None: ...

    def sample(self, text: str) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass
class World:
    """A folder with a recipe, a base and problems; `run` runs it with fake stages and keeps what was made."""

    folder: Path
    made: list[str] = field(default_factory=list)
    before: dict[str, Callable[[StageContext], None]] = field(default_factory=dict)
    progress: Notes = field(default_factory=Notes)

    @property
    def recipe(self) -> Path:
        return self.folder / "recipe.toml"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def edit(self, old: str, new: str) -> None:
        """Replace text in the recipe."""
        text = self.recipe.read_text(encoding="utf-8")
        assert old in text
        self.recipe.write_text(text.replace(old, new), encoding="utf-8")

    def run(self, **options: Any) -> RunResult:
        """Run the recipe; `made` and `progress.notes` are of this run alone."""
        self.made.clear()
        self.progress.notes.clear()
        runners = {
            "grpo": self._train,
            "sft": self._train,
            "cold_start": self._make_data,
            "rejection": self._make_data,
        }
        # the base is no model that could be looked at
        options.setdefault("preflight", lambda context, jobs: None)
        return run_recipe(self.recipe, progress=self.progress, runners=runners, **options)

    def _train(self, context: StageContext, config: Any) -> dict[str, float | int | str]:
        self._begin(context)
        model = context.work_dir / "model"
        model.mkdir(exist_ok=True)
        weights = Path(context.model_path(config.model)) / "model.safetensors"
        if config.kind == "grpo":
            given = [context.seed, config.steps, *(p.id for p in context.problems("sums"))]
        else:
            given = [context.seed, config.epochs, context.data_path(config.data).read_text(encoding="utf-8")]
        text = json.dumps([weights.read_text(encoding="utf-8"), given])
        (model / "model.safetensors").write_text(text, encoding="utf-8")
        return {"accuracy": 0.5}

    def _make_data(self, context: StageContext, config: Any) -> dict[str, float | int | str]:
        self._begin(context)
        source = Path(context.model_path(config.sources[0].model)) / "model.safetensors"
        row = {"from": source.read_text(encoding="utf-8"), "keep": config.keep_per_problem}
        (context.work_dir / "data.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
        return {"kept": 1}

    def _begin(self, context: StageContext) -> None:
        self.made.append(context.name)
        if context.name in self.before:
            self.before[context.name](context)


def make_world(folder: Path) -> World:
    """A new world in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / "base_model"
    base.mkdir()
    (base / "config.json").write_text("{}", encoding="utf-8")
    (base / "model.safetensors").write_text("base", encoding="utf-8")
    rows = [{"q": f"What is {n} + 1?", "a": str(n + 1)} for n in range(3)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    world = World(folder)
    world.recipe.write_text(RECIPE.replace("OUT", str(world.out)), encoding="utf-8")
    return world
