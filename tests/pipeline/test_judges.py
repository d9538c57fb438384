"""Judges of a recipe: named once, resolved where a stage names them, ordered, fingerprinted, asked once."""

import json
from pathlib import Path
from typing import Any

import pytest

from r1kit.errors import RecipeError
from r1kit.pipeline.doctor import examine
from r1kit.pipeline.plan import plan_jobs
from r1kit.pipeline.recipe import load_recipe, resolved
from r1kit.pipeline.run import open_run
from r1kit.pipeline.stages import references
from tests.judges.chat_server import chat_server
from tests.judges.test_opening import oracle
from tests.tiny_models import tiny_model

RECIPE = """\
[run]
name = "judged"
output_dir = "OUT"

[model]
base = "base_model"
device = "cpu"

[judges.grader]
base_url = "URL"
model = "m"
budget_requests = 100

[judges.own]
model = "dev1"

[problems.chat]
source = "chat.jsonl"
kind = "general"
columns = { question = "q" }

[problems.sums]
source = "sums.jsonl"
columns = { question = "q", answer = "a" }

[stages.dev3]
kind = "rejection"
model = "base"
problems = ["sums"]
judge = "grader"

[stages.dev3.general]
problems = ["chat"]
reasoning = "grader"
quality = { judge = "grader", threshold = 0.5 }

[stages.pairs]
kind = "preferences"
model = "base"
problems = ["chat"]
label = "own"

[stages.dev1]
kind = "sft"
model = "base"
data = "dev3"

[stages.r1]
kind = "grpo"
model = "base"
prompt_style = "chat"
problems = { chat = 1.0 }
rewards = { helpful = 1.0 }
judges = { helpful = "grader" }
steps = 1
problems_per_step = 2
mini_batches = 1
max_new_tokens = 64

[eval]
problems = ["sums"]
stages = ["base"]
judge = "own"
"""


class Judged:
    """The recipe in a folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "recipe.toml"
        self.path.write_text(RECIPE.replace("OUT", str(folder / "out")), encoding="utf-8")
        for name, row in (("chat", {"q": "Hi?"}), ("sums", {"q": "1 + 1?", "a": "2"})):
            (folder / f"{name}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
        tiny_model(folder / "base_model")

    def edit(self, old: str, new: str) -> None:
        text = self.path.read_text(encoding="utf-8")
        assert old in text
        self.path.write_text(text.replace(old, new), encoding="utf-8")

    def line(self, text: str) -> int:
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return next(i for i, line in enumerate(lines, 1) if line.startswith(text))


@pytest.fixture
def judged(tmp_path: Path) -> Judged:
    return Judged(tmp_path)


def test_a_name_stands_for_its_table_wherever_a_judge_may_be(judged: Judged) -> None:
    recipe = load_recipe(judged.path)
    grader, stages = recipe.judges["grader"], recipe.stages
    rejection: Any = stages["dev3"]
    grpo: Any = stages["r1"]
    pairs: Any = stages["pairs"]
    assert rejection.judge == rejection.general.reasoning == rejection.general.quality.judge == grader
    assert grpo.judges == {"helpful": grader}
    assert recipe.eval is not None
    assert pairs.label == recipe.eval.judge == recipe.judges["own"]


def test_a_stage_comes_after_the_model_that_judges_it_and_depends_on_it(judged: Judged) -> None:
    recipe = load_recipe(judged.path)
    jobs = {job.name: job for job in plan_jobs(recipe)}
    order = list(jobs)
    assert order.index("dev1") < order.index("pairs")
    assert jobs["pairs"].needs == ("dev1",)
    assert jobs["eval/base"].needs == ("dev1",)
    assert [r.target for r in references(recipe.stages["pairs"]) if r.role == "model"] == ["base", "dev1"]


def test_only_what_changes_verdicts_makes_a_stage_stale(judged: Judged) -> None:
    before = resolved(load_recipe(judged.path).stages["r1"])
    assert before["judges"] == {"helpful": {"model": "m", "temperature": 0.0, "max_tokens": 4096}}
    judged.edit("budget_requests = 100", "budget_requests = 200\nretries = 9")
    judged.edit("URL", "http://elsewhere/v1")
    assert resolved(load_recipe(judged.path).stages["r1"]) == before
    judged.edit('model = "m"', 'model = "n"')
    assert resolved(load_recipe(judged.path).stages["r1"]) != before


SEVERAL_LINES = None  # a fault of a whole table, or of a key inside a line


@pytest.mark.parametrize(
    ("old", "new", "place", "complaint"),
    [
        ('judge = "grader"', 'judge = "grade"', "judge = ", "there is no such judge; did you mean `grader`?"),
        ('label = "own"', 'label = "owned"', "label = ", "there is no such judge; did you mean `own`?"),
        (
            'reasoning = "grader"',
            'reasoning = "grate"',
            "reasoning = ",
            "`stages.dev3.general.reasoning` = 'grate'",
        ),
        (
            'reasoning = "grader"',
            'reasoning = { model = "m", modl = 1 }',
            "reasoning = ",
            "unknown key `stages.dev3.general.reasoning.modl`; did you mean `model`?",
        ),
        (
            'model = "dev1"',
            'model = "dev9"',
            'model = "dev9"',
            "`judges.own.model` = 'dev9': neither a stage, a folder nor a hub name",
        ),
        (
            'model = "dev1"',
            'model = "dev1"\nretries = 2',
            SEVERAL_LINES,
            "`retries` is for a judge behind a server",
        ),
        ('model = "dev1"', 'model = "dev1"\nrate = 2', "rate = ", "unknown key `judges.own.rate`"),
        ("[judges.own]", "[judges.tinyworld]", "[judges.tinyworld]", "the name is taken"),
        (
            'helpful = "grader" }',
            'helful = "grader" }',
            SEVERAL_LINES,
            "a judge gives one of the rewards accuracy, helpful, safety",
        ),
        (
            'helpful = "grader" }',
            'safety = "grader" }',
            SEVERAL_LINES,
            "the reward 'safety' has no weight",
        ),
    ],
)
def test_faults_are_named_with_their_line(
    judged: Judged, old: str, new: str, place: str | None, complaint: str
) -> None:
    if "tinyworld" in new:
        judged.edit('judge = "own"', 'judge = "tinyworld"')
        judged.edit('label = "own"', 'label = "tinyworld"')
    judged.edit(old, new)
    with pytest.raises(RecipeError) as caught:
        load_recipe(judged.path)
    assert complaint in str(caught.value)
    if place is not SEVERAL_LINES:
        assert f"recipe.toml:{judged.line(place)}: " in str(caught.value)


def test_a_judge_that_is_the_stage_it_judges_goes_round_in_a_circle(judged: Judged) -> None:
    judged.edit('judge = "grader"', 'judge = { model = "dev1" }')
    with pytest.raises(RecipeError, match="in a circle: dev3 -> dev1 -> dev3"):
        load_recipe(judged.path)


def test_the_doctor_asks_each_judge_once_about_all_that_it_is_for(judged: Judged) -> None:
    with chat_server(oracle) as server:
        judged.edit("URL", server.url)
        checks = {check.subject: check for check in examine(open_run(judged.path))}
        assert len(server.requests) == 3 * 2  # correctness, reasoning, quality: a good and a bad case each
    found = checks["judges.grader"]
    assert found.faults == []
    assert found.found.endswith("answers, and tells right from wrong (correctness, reasoning, quality)")
    assert checks["judges.own"].found == "dev1 has not been made yet; it can be asked after that"
    assert not any("judge" in name and not name.startswith("judges.") for name in checks)
    assert not (judged.path.parent / "out" / "judge_replies").exists()


def test_the_doctor_asks_a_model_of_the_process_too(judged: Judged) -> None:
    judged.edit('model = "dev1"', 'model = "base"\nmax_tokens = 4')
    with chat_server(oracle) as server:
        judged.edit("URL", server.url)
        checks = {check.subject: check for check in examine(open_run(judged.path))}
    [fault] = checks["judges.own"].faults  # a random model
    assert "gave no readable judgment; use a model that was trained to follow instructions" in fault
