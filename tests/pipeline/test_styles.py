"""Whoever samples a model asks and reads it as it was trained."""

import json
from pathlib import Path

import pytest

from r1kit.errors import RecipeError
from r1kit.pipeline.recipe import Recipe, eval_style, load_recipe, style_of
from r1kit.pipeline.shipped import find_recipe
from r1kit.text.template import format_chat, format_zero
from tests.tiny_models import tiny_model

HEAD = """\
[run]
name = "styles"
[model]
base = "tinyworld"
[problems.sums]
source = "tinyworld"
num_problems = 4
[stages.zero]
kind = "grpo"
model = "base"
prompt_style = "zero"
problems = { sums = 1.0 }
rewards = { accuracy = 1.0 }
steps = 1
"""


def loaded(folder: Path, text: str) -> Recipe:
    path = folder / "recipe.toml"
    path.write_text(HEAD + text)
    return load_recipe(path)


def _sft(name: str, data: str, model: str = "base") -> str:
    return f'[stages.{name}]\nkind = "sft"\nmodel = "{model}"\ndata = {data}\n'


def _rejection(model: str, extra: str = "") -> str:
    return f'[stages.rejection]\nkind = "rejection"\nmodel = "{model}"\nproblems = ["sums"]\n{extra}'


def _write(folder: Path, name: str, response: str, style: str | None) -> None:
    row = {"messages": [{"role": "user", "content": "1+1?"}], "response": response}
    (folder / name).write_text(json.dumps(row | ({} if style is None else {"style": style})) + "\n")


@pytest.mark.parametrize(
    ("response", "style", "expected"),
    [
        (format_zero("a", "2"), "zero", "zero"),
        (format_chat("a", "2"), "chat", "chat"),
        (format_zero("a", "2"), None, "zero"),
        (format_chat("a", "2"), None, "chat"),
        ("2", None, "chat"),
    ],
)
def test_after_sft_a_model_has_the_style_of_its_data(
    tmp_path: Path, response: str, style: str | None, expected: str
) -> None:
    _write(tmp_path, "data.jsonl", response, style)
    recipe = loaded(tmp_path, _sft("warm", '"data.jsonl"') + _rejection("warm"))
    assert style_of(recipe, "warm") == expected
    assert recipe.stages["rejection"].prompt_style == expected


def test_a_data_stage_follows_its_model_unless_it_is_told(tmp_path: Path) -> None:
    recipe = loaded(tmp_path, _rejection("zero") + _sft("dev", '"rejection"'))
    assert recipe.stages["rejection"].prompt_style == "zero"
    assert style_of(recipe, "dev") == "chat"  # what stages write are chats
    told = loaded(tmp_path, _rejection("zero", 'prompt_style = "chat"\n'))
    assert told.stages["rejection"].prompt_style == "chat"
    (shipped,) = [
        stage
        for stage in load_recipe(find_recipe("qwen2.5-1.5b")).stages.values()
        if stage.kind == "rejection"
    ]
    assert shipped.prompt_style == "zero"


def test_cold_start_samples_a_chat_as_a_chat_and_shows_examples_in_table_1s_shape(tmp_path: Path) -> None:
    source = '[[stages.cold.sources]]\nkind = "{}"\nmodel = "{}"\nproblems = "sums"\n'
    kinds = (("samples", "zero"), ("samples", "dev"), ("direct", "dev"), ("few_shot", "dev"))
    text = '[stages.cold]\nkind = "cold_start"\n' + "".join(source.format(*kind) for kind in kinds)
    _write(tmp_path, "data.jsonl", format_chat("a", "2"), None)
    recipe = loaded(tmp_path, text + _sft("dev", '"data.jsonl"'))
    styles = [source.prompt_style for source in recipe.stages["cold"].sources]
    assert styles == ["zero", "chat", "chat", None]


def test_a_model_from_elsewhere_chats_unless_training_starts_from_it(tmp_path: Path) -> None:
    tiny_model(tmp_path / "finished")
    tiny_model(tmp_path / "raw")
    _write(tmp_path, "data.jsonl", format_chat("a", "2"), None)
    evaluation = '[eval]\nproblems = ["sums"]\nstages = ["base", "finished", "raw"]\n'
    text = _sft("distill", '"data.jsonl"', "raw") + _rejection("finished") + evaluation
    recipe = loaded(tmp_path, text)
    assert [eval_style(recipe, name) for name in ("base", "finished", "raw")] == ["zero", "chat", "zero"]
    assert recipe.stages["rejection"].prompt_style == "chat"
    told = loaded(tmp_path, text + 'styles = { raw = "chat" }\n')
    assert eval_style(told, "raw") == "chat"
    with pytest.raises(RecipeError, match=r"eval\.styles` names 'row', which is not evaluated; .*raw"):
        loaded(tmp_path, text + 'styles = { row = "chat" }\n')
