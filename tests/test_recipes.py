"""Every shipped recipe loads and checks; names that don't fit are one sentence each, with file and line."""

import re
import tomllib
from pathlib import Path

import pytest

from r1kit.errors import RecipeError
from r1kit.grpo import GrpoConfig
from r1kit.pipeline.order import running_order
from r1kit.pipeline.plan import plan_jobs
from r1kit.pipeline.recipe import load_recipe, style_of
from r1kit.pipeline.shipped import find_recipe, shipped_recipes
from tests.pipeline.fakes import RECIPE

SHIPPED = shipped_recipes()
ROUTE = ["zero", "cold_start", "dev1", "dev2", "rejection", "dev3", "preferences", "helpful", "r1"]


def own_recipe(folder: Path) -> Path:
    """The recipe of `r1 init` with the files beside it that it speaks of."""
    path = folder / "own.toml"
    path.write_text(SHIPPED["own"].read_text(encoding="utf-8"), encoding="utf-8")
    return path


def test_all_recipes_are_shipped() -> None:
    assert set(SHIPPED) == {"tiny", "demo", "code", "zero-only", "deepseek-r1", "qwen2.5-1.5b", "own"}
    assert find_recipe("tiny") == SHIPPED["tiny"]
    assert find_recipe("qwen2.5-1.5b") == SHIPPED["qwen2.5-1.5b"]  # the dot makes it no path
    assert find_recipe("some/other.toml") == Path("some/other.toml")
    with pytest.raises(RecipeError, match=r"no shipped recipe of this name; did you mean `tiny`\?"):
        find_recipe("tinny")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_loads_and_its_stages_can_be_ordered(name: str) -> None:
    recipe = load_recipe(SHIPPED[name])
    jobs = plan_jobs(recipe)
    done: set[str] = set()
    for job in jobs:
        assert set(job.needs) <= done
        done.add(job.name)
    assert {job.name for job in jobs if job.kind != "eval"} == set(recipe.stages)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_reads_well(name: str) -> None:
    lines = SHIPPED[name].read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert max(len(line) for line in lines) <= 130
    assert sum("#" in line for line in lines) / len(lines) > 0.1


def test_tiny_and_demo_take_the_papers_route() -> None:
    tiny, demo = load_recipe(SHIPPED["tiny"]), load_recipe(SHIPPED["demo"])
    for recipe in (tiny, demo):
        order = running_order(recipe.stages)
        assert [name for name in order if name in ROUTE] == ROUTE
        assert recipe.stages["dev3"].model == "base"  # not dev2
        assert style_of(recipe, "zero") == "zero"
        assert style_of(recipe, "dev1") == style_of(recipe, "r1") == "chat"
        assert style_of(recipe, "base") == "zero"
    assert {"zero_random", "zero_format"} <= set(tiny.stages)
    distill, zero_small = tiny.stages["distill"], tiny.stages["zero_small"]
    assert (distill.model, distill.data) == ("tinyworld-small", "rejection")
    assert zero_small == tiny.stages["zero"].model_copy(update={"model": "tinyworld-small", "probe": None})
    # demo is tiny with fewer steps and less at the end: the rest of the stages that both have is the same
    assert set(demo.stages) == set(tiny.stages) - {"zero_random", "zero_format", "distill", "zero_small"}
    for name, stage in demo.stages.items():
        same = tiny.stages[name]
        if isinstance(stage, GrpoConfig) and isinstance(same, GrpoConfig):
            assert 0.6 * same.steps < stage.steps < same.steps
            by_step = ("steps", "mixture", "reward_schedule")
            same = same.model_copy(update={field: getattr(stage, field) for field in by_step})
        assert stage == same


def test_the_controls_differ_from_zero_in_their_reward_alone() -> None:
    recipe = load_recipe(SHIPPED["tiny"])
    zero = recipe.stages["zero"]
    assert isinstance(zero, GrpoConfig)
    for name, rewards in (("zero_random", {"random": 1.0}), ("zero_format", {"format": 1.0})):
        control = recipe.stages[name]
        assert isinstance(control, GrpoConfig)
        assert control.rewards == rewards
        same = {"rewards": zero.rewards, "constant_groups": zero.constant_groups, "probe": zero.probe}
        assert control.model_copy(update=same) == zero


def test_the_evaluation_never_asks_what_was_trained_on() -> None:
    for name in ("tiny", "demo", "code", "zero-only"):
        recipe = load_recipe(SHIPPED[name])
        assert recipe.eval is not None
        splits = {name: table.split for name, table in recipe.problems.items()}
        assert {splits[name] for name in recipe.eval.sets} == {"held_out"}
        assert all(recipe.problems[name].seed is not None for name in recipe.eval.sets)


def test_the_papers_recipe_has_the_papers_numbers() -> None:
    stages = load_recipe(SHIPPED["deepseek-r1"]).stages
    zero, dev2, r1, dev3 = stages["zero"], stages["dev2"], stages["r1"], stages["dev3"]
    for stage in (zero, dev2, r1):
        assert isinstance(stage, GrpoConfig)
        assert (stage.problems_per_step, stage.group_size, stage.mini_batches) == (512, 16, 16)
        assert (stage.optimizer.learning_rate, stage.kl_coef, stage.reference_refresh_every) == (
            3e-6,
            0.001,
            400,
        )
        # 8,192 outputs a step in 16 mini-batches are 512 outputs, 32 questions, an update
        assert stage.problems_per_step * stage.group_size == 8192
    assert isinstance(zero, GrpoConfig)
    assert zero.num_updates == 10_400
    assert zero.max_new_tokens_at(512) == 32_768
    assert zero.max_new_tokens_at(513) == 65_536  # after update 512 * 16 = 8,192, about 8,200
    assert isinstance(dev2, GrpoConfig)
    assert (dev2.clip_eps, dev2.temperature) == (10, 1.0)
    assert isinstance(r1, GrpoConfig)
    assert (r1.clip_eps, r1.temperature) == (10, 0.7)
    assert abs(r1.num_updates - 1_700) < 16
    assert "helpful" not in r1.weights_at(81)
    assert {"helpful", "safety"} <= set(r1.weights_at(82))  # updates 1,297 on: the last 400
    assert dev3.kind == "sft"
    assert (dev3.epochs, dev3.optimizer.learning_rate, dev3.max_tokens) == (2, 5e-5, 32_768)


def test_every_number_of_the_papers_recipe_says_where_it_is_from() -> None:
    text = SHIPPED["deepseek-r1"].read_text(encoding="utf-8")
    stages = text[text.index("[stages.zero]") :]
    unexplained = [
        line
        for line in stages.splitlines()
        if re.match(
            r"(steps|temperature|clip_eps|max_records|samples_per_round|max_rounds|judgments) *=", line
        )
        and "#" not in line
    ]
    assert not unexplained


def faults_of(tmp_path: Path, text: str) -> list[str]:
    """The faults of a recipe, without the path before the line number."""
    (tmp_path / "base_model").mkdir(exist_ok=True)
    path = tmp_path / "r.toml"
    path.write_text(text, encoding="utf-8")
    tomllib.loads(text)
    with pytest.raises(RecipeError) as caught:
        plan_jobs(load_recipe(path))
    return [line.replace(str(path), "r.toml") for line in str(caught.value).splitlines()]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            'model = "dev1"',
            'model = "dve1"',
            "r.toml:15: `stages.dev2.model` = 'dve1': neither a stage, a folder nor a hub name "
            "(`owner/model`); did "
            "you mean `dev1`?",
        ),
        (
            'model = "dev1"',
            'model = "gpt2"',
            "r.toml:15: `stages.dev2.model` = 'gpt2': neither a stage, a folder nor a hub name "
            "(`owner/model`); known "
            "here: dev2, zero, dev1, base.",
        ),
        (
            'model = "dev1"',
            'model = "cold"',
            "r.toml:15: `stages.dev2.model` = 'cold': that stage is of kind cold_start, which does "
            "not give a model; "
            "stages that do: dev2, zero, dev1.",
        ),
        (
            'data = "cold"',
            'data = "zero"',
            "r.toml:44: `stages.dev1.data` = 'zero': that stage is of kind grpo, which does not give "
            "data for SFT; "
            "stages that do: cold.",
        ),
        (
            'data = "cold"',
            'data = "cold.jsonl"',
            "r.toml:44: `stages.dev1.data` = 'cold.jsonl': neither a stage nor a file; known here: cold.",
        ),
        (
            'model = "dev1"',
            'model = "dev2"',
            "r.toml:15: `stages.dev2.model` = 'dev2': a stage can't start from itself.",
        ),
        (
            'model = "dev1"\nprompt_style = "chat"\nproblems = { sums = 1.0 }',
            'model = "dev1"\nprompt_style = "chat"\nproblems = { sumps = 1.0 }',
            "r.toml:17: `stages.dev2.problems.sumps` = 'sumps': there is no such problem set; did "
            "you mean `sums`?",
        ),
        (
            "rewards = { accuracy = 1.0, format = 1.0 }",
            "rewards = { acuracy = 1.0 }",
            "r.toml:28: `stages.zero.rewards.acuracy` = 'acuracy': there is no such reward; did you "
            "mean `accuracy`?",
        ),
        (
            "rewards = { accuracy = 1.0, format = 1.0 }",
            'rewards = { "mine.py:score" = 1.0 }',
            "r.toml:28: `stages.zero.rewards.mine.py:score` = 'mine.py:score': there is no file "
            "FOLDER/mine.py.",
        ),
        (
            "rewards = { accuracy = 1.0, format = 1.0 }",
            'rewards = { accuracy = 1.0 }\nreward_models = { helpful = "dev1" }',
            "r.toml:29: `stages.zero.reward_models.helpful` = 'dev1': that stage is of kind sft, "
            "which does not give a "
            "reward model; no stage here does.",
        ),
        (
            "rewards = { accuracy = 1.0, format = 1.0 }",
            'rewards = { accuracy = 1.0 }\nreward_models = { helpful = { model = "dev1", label = 1 } }',
            "r.toml:29: `stages.zero.reward_models.helpful.model` = 'dev1': that stage is of kind sft, "
            "which does not give a "
            "reward model; no stage here does.",
        ),
        (
            "rewards = { accuracy = 1.0, format = 1.0 }",
            'rewards = { format = 1.0 }\nreward_models = { safety = { model = "a/b", reference = "cold" } }',
            "r.toml:29: `stages.zero.reward_models.safety.reference` = 'cold': that stage is of kind "
            "cold_start, which does not give preference data; no stage here does.",
        ),
        ("[stages.cold]", "[stages.base]", "r.toml:33: `stages.base`: the name is taken; choose another."),
        (
            "[stages.zero]",
            '[stages."my zero"]',
            "r.toml:23: `stages.my zero`: the name should be letters, digits, `_` and `-`; choose another.",
        ),
        (
            "epochs = 2\n",
            'epochs = 2\n[eval]\nproblems = ["held_out"]\nstages = ["base", "dev3"]\n',
            "r.toml:47: `eval.problems` names 'held_out': there is no such problem set; known here: sums.",
        ),
        (
            "epochs = 2\n",
            'epochs = 2\n[eval]\nproblems = ["sums"]\nstages = ["base", "dev3"]\n',
            "r.toml:48: `eval.stages` names 'dev3': neither a stage, a folder nor a hub name "
            "(`owner/model`); did you "
            "mean `dev2`?",
        ),
        ("epochs = 2\n", "epochs = 2\n[eval]\n", None),
    ],
)
def test_a_name_that_does_not_fit_is_one_sentence(
    tmp_path: Path, old: str, new: str, fault: str | None
) -> None:
    assert old in RECIPE
    expected = fault or "r.toml:46: `eval` has nothing to evaluate on; name problem sets in `problems`."
    text = RECIPE.replace("[[stages.cold.sources]]", "[[stages.base.sources]]") if "base]" in new else RECIPE
    faults = [
        fault.replace(str(tmp_path), "FOLDER") for fault in faults_of(tmp_path, text.replace(old, new, 1))
    ]
    assert expected in faults


def test_a_circle_is_named(tmp_path: Path) -> None:
    text = RECIPE.replace('kind = "grpo"\nmodel = "base"', 'kind = "grpo"\nmodel = "dev2"')
    assert faults_of(tmp_path, text) == [
        "r.toml:15: stages need each other in a circle: dev2 -> dev1 -> cold -> zero -> dev2; one "
        "must start it."
    ]


def test_an_adapter_and_sharding_exclude_each_other(tmp_path: Path) -> None:
    text = RECIPE.replace("epochs = 2\n", "epochs = 2\nlora = { rank = 4 }\n", 1)
    assert faults_of(tmp_path, text.replace("[run]\n", "[run]\nshard = true\n", 1)) == [
        "r.toml:47: `stages.dev1.lora` can't be used together with run.shard yet; leave one out."
    ]


def test_a_model_may_be_a_folder_beside_the_recipe_or_a_hub_name(tmp_path: Path) -> None:
    (tmp_path / "my_model").mkdir()
    path = tmp_path / "r.toml"
    for model in ("my_model", "Qwen/Qwen2.5-0.5B", "tinyworld"):
        path.write_text(RECIPE.replace('model = "dev1"', f'model = "{model}"'), encoding="utf-8")
        assert running_order(load_recipe(path).stages)[0] == "dev2"


def test_the_recipe_of_init_is_checked_too(tmp_path: Path) -> None:
    recipe = load_recipe(own_recipe(tmp_path))
    assert list(recipe.stages) == ["zero"]
