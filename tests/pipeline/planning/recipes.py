"""Small recipes to plan for."""

from pathlib import Path
from typing import Any

from r1kit.pipeline.context import RunContext
from r1kit.pipeline.plan import Job, plan_jobs
from r1kit.pipeline.planning.assumptions import Assumptions
from r1kit.pipeline.run import open_run

RECIPE = """\
[run]
name = "small"
output_dir = "OUT"

[model]
base = "tinyworld"
dtype = "float32"
device = "cpu"

[engine]
max_rows = 16

[problems.sums]
source = "tinyworld"
split = "train"
num_problems = 10

[problems.talk]
source = "tinyworld-general"
split = "train"
num_problems = 20
categories = ["greeting"]

[stages.zero]
kind = "grpo"
model = "base"
prompt_style = "zero"
problems = { sums = 1.0 }
rewards = { accuracy = 1.0, format = 1.0 }
steps = 4
problems_per_step = 3
group_size = 4
mini_batches = 2
inner_epochs = 3
max_new_tokens = 30
kl_coef = 0.001
probe = "sums"
probe_size = 8
eval_every = 3

[stages.samples]
kind = "rejection"
model = "zero"
problems = ["sums"]
samples_per_round = 5
max_rounds = 2
max_new_tokens = 60
keep_hard = 3
keep_easy = 1

[stages.sft]
kind = "sft"
model = "base"
data = "samples"
epochs = 3
tokens_per_batch = 500

[stages.pairs]
kind = "preferences"
model = "sft"
problems = ["talk"]
samples_per_problem = 4
pairs_per_problem = 2
max_new_tokens = 30

[stages.helpful]
kind = "reward_model"
objective = "pairwise"
model = "sft"
data = "pairs"
examples_per_batch = 6

[eval]
problems = ["sums"]
general = ["talk"]
samples = 8
general_samples = 2
max_new_tokens = 90
stages = ["sft"]
"""


def make_context(folder: Path, recipe: str = RECIPE, **options: Any) -> RunContext:
    """The recipe, written into a folder, with its run in `folder/out`."""
    path = folder / "recipe.toml"
    path.write_text(recipe.replace("OUT", str(folder / "out")), encoding="utf-8")
    return open_run(path, writes=False, **options)


def job_of(context: RunContext, name: str) -> Job:
    """The job of this name."""
    return next(job for job in plan_jobs(context.recipe) if job.name == name)


def guesses(context: RunContext, **known: Any) -> Assumptions:
    """Assumptions for which nothing is read: prompts of 128 tokens, lengths of a third of the limit."""
    return Assumptions(context, reads_problems=False, **known)
