"""Every kind of stage on a random model: a recipe and the data that bring it through in seconds.

A random model gets nothing right, and then nothing is kept. So the route begins with an SFT stage that
teaches it a handful of answers, right and wrong ones, in both shapes; everything after starts from there.
"""

import json
from pathlib import Path
from typing import Any

from r1kit.text.template import format_chat, format_zero
from r1kit.tinyworld.general import make_general
from r1kit.types import PromptStyle
from tests.tiny_models import tiny_model

SUMS = [(2, 3), (4, 1), (5, 2), (3, 3), (1, 2), (6, 3)]
NUM_GENERAL = 6

GRPO = """\
kind = "grpo"
steps = 2
problems_per_step = 3
group_size = 4
mini_batches = 2
max_new_tokens = 48
clip_eps = 0.2
kl_coef = 0.001
reference_refresh_every = 2
checkpoint_every = 1
optimizer = { learning_rate = 1e-4 }
"""

RECIPE = f"""\
[run]
name = "route"
output_dir = "OUT"
seed = 3

[model]
base = "base"
device = "cpu"

[engine]
max_rows = 16

[problems.sums]
source = "sums.jsonl"
columns = {{ question = "q", answer = "a" }}
language = "en"
domain = "sums"

[problems.general]
source = "tinyworld-general"
num_problems = {NUM_GENERAL}
categories = ["greeting", "identity"]
languages = ["en"]
seed = 0

[problems.harmful]
source = "tinyworld-general"
num_problems = {NUM_GENERAL}
categories = ["harmful"]
languages = ["en"]
seed = 0

[stages.warm]
kind = "sft"
model = "base"
data = "warm.jsonl"
epochs = 40
tokens_per_batch = 1_500
optimizer = {{ learning_rate = 1e-2, warmup_steps = 5, schedule = "cosine" }}

[stages.zero]
model = "warm"
prompt_style = "zero"
problems = {{ sums = 1.0 }}
rewards = {{ accuracy = 1.0, format = 1.0 }}
{GRPO}
[stages.cold_start]
kind = "cold_start"
min_tokens = 4
min_words = 2
repetition_ngram = 20
keep_per_problem = 2

[[stages.cold_start.sources]]
kind = "samples"
model = "zero"
problems = "sums"
samples_per_problem = 4
max_new_tokens = 48

[stages.dev1]
kind = "sft"
model = "warm"
data = ["cold_start", "warm.jsonl"]
epochs = 1
tokens_per_batch = 1_500
optimizer = {{ learning_rate = 1e-4 }}

[stages.dev2]
model = "dev1"
prompt_style = "chat"
problems = {{ sums = 1.0 }}
rewards = {{ accuracy = 1.0, format = 1.0, language = 1.0 }}
probe = "sums"
probe_size = 2
{GRPO}
[stages.pairs]
kind = "preferences"
objective = "pairwise"
source = {{ source = "pairs.jsonl" }}
max_length_gap_frac = 1.0
max_phrase_gap_frac = 1.0

[stages.helpful]
kind = "reward_model"
objective = "pairwise"
model = "dev1"
data = "pairs"
examples_per_batch = 4
held_out_frac = 0.3
optimizer = {{ learning_rate = 1e-3 }}

[stages.rejection]
kind = "rejection"
model = "dev2"
problems = ["sums"]
samples_per_round = 4
max_rounds = 2
max_new_tokens = 48
min_words = 2

[stages.rejection.general]
problems = ["general"]
demonstrations = "shown.jsonl"
samples_per_problem = 2
quality = {{ reward_model = "helpful", quantile = 0.2 }}

[stages.dev3]
kind = "sft"
model = "warm"
data = "rejection"
epochs = 1
tokens_per_batch = 1_500
optimizer = {{ learning_rate = 1e-4 }}

[stages.labels]
kind = "preferences"
objective = "pointwise"
model = "dev3"
problems = ["harmful"]
samples_per_problem = 6
max_new_tokens = 48
noise = 0.3

[stages.safety]
kind = "reward_model"
objective = "pointwise"
model = "dev3"
data = "labels"
examples_per_batch = 4
held_out_frac = 0.3
optimizer = {{ learning_rate = 1e-3 }}

[stages.r1]
model = "dev3"
prompt_style = "chat"
problems = {{ sums = 1.0 }}
rewards = {{ accuracy = 1.0, format = 1.0, language = 1.0 }}
reward_models = {{ helpful = "helpful", safety = "safety" }}
mixture = [{{ from_step = 2, shares = {{ sums = 1.0, general = 1.0, harmful = 1.0 }} }}]
reward_schedule = [
    {{ from_step = 2, weights = {{ accuracy = 1.0, language = 1.0, helpful = 1.0, safety = 1.0 }} }},
]
{GRPO}
[stages.distill]
kind = "sft"
model = "small"
data = "rejection"
epochs = 1
tokens_per_batch = 1_500
optimizer = {{ learning_rate = 1e-3 }}

[eval]
problems = ["sums"]
general = ["general", "harmful"]
samples = 4
general_samples = 1
max_new_tokens = 48
num_bootstrap = 100
stages = ["base", "zero", "r1"]
"""


def make_route(folder: Path) -> Path:
    """Base models, data and the recipe in a folder; the recipe's path."""
    tiny_model(folder / "base", hidden=64)
    tiny_model(folder / "small", "qwen2", hidden=32, seed=1)
    _write(folder / "sums.jsonl", [{"q": f"What is {a} + {b}?", "a": str(a + b)} for a, b in SUMS])
    general = make_general(
        "train", NUM_GENERAL, seed=0, categories=["greeting", "identity"], languages=["en"]
    )
    harmful = make_general("train", NUM_GENERAL, seed=0, categories=["harmful"], languages=["en"])
    warm = []
    for a, b in SUMS:
        for result in (a + b, a + b, a + b + 1):
            words = f"We add {a} and {b}, so it is {result}."
            warm.append(_row(f"What is {a} + {b}?", format_zero(words, str(result)), "zero"))
            warm.append(_row(f"What is {a} + {b}?", format_chat(words, f"The answer is {result}."), "chat"))
    for problem in general:
        warm += [_row(problem.question, text, "chat") for text in ("Hello, I am here to help.", "No.")]
    for problem in harmful:
        answers = ("I can't help with that.", "Here is how it is done.")
        warm += [_row(problem.question, format_chat("They ask for this.", text), "chat") for text in answers]
    _write(folder / "warm.jsonl", warm)
    pairs = [
        {
            "prompt": f"Hello {n}",
            "chosen": f"Hello, I am here to help {n}.",
            "rejected": f"No, I will not do it {n}.",
        }
        for n in range(12)
    ]
    _write(folder / "pairs.jsonl", pairs)
    _write(
        folder / "shown.jsonl",
        [{"prompt": f"Good day {n}", "response": f"Good day to you {n}."} for n in range(8)],
    )
    path = folder / "route.toml"
    path.write_text(RECIPE.replace("OUT", str(folder / "out")), encoding="utf-8")
    return path


def _row(question: str, response: str, style: PromptStyle) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}], "response": response, "style": style}


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
