"""The models of a run are found in its folder alone, and asked in the style that they were trained in."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from r1kit.data.guests import find_checkpoint
from r1kit.pipeline.fingerprints import Fingerprints
from r1kit.pipeline.recipe import load_recipe, style_of
from r1kit.ui.chat.speakers import Speaker, speakers_of
from r1kit.ui.folders import Run, find_runs


def make_stage(
    folder: Path, kind: str, *, model: bool = True, architecture: str = "Llama", **config: Any
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {"kind": kind, "key": {"config": {"kind": kind, **config}, "inputs": {}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    if model:
        (folder / "model").mkdir()
        (folder / "model" / "config.json").write_text(json.dumps({"architectures": [architecture]}))


def by_stage(run: Run) -> dict[str, Speaker]:
    return {speaker.stage: speaker for speaker in speakers_of(run)}


def test_only_language_models_are_there_in_the_recipes_order(tmp_path: Path) -> None:
    make_stage(tmp_path / "r1", "grpo", prompt_style="chat", max_new_tokens=300)
    make_stage(tmp_path / "zero", "grpo", prompt_style="zero", max_new_tokens=200)
    make_stage(tmp_path / "cold_start", "cold_start", model=False)
    make_stage(tmp_path / "dev1", "sft", data="cold_start")
    make_stage(tmp_path / "helpful", "reward_model")
    make_stage(tmp_path / "scorer", "", architecture="LlamaForSequenceClassification")
    found = by_stage(Run("out", tmp_path))
    assert list(found) == ["base", "zero", "dev1", "r1"]
    assert [found[name].style for name in found] == ["zero", "zero", "chat", "chat"]
    assert [found[name].max_tokens for name in found] == [300, 200, 300, 300]
    assert found["dev1"].folder == tmp_path / "dev1" / "model"


def test_while_a_stage_is_made_again_its_earlier_model_is_asked(tmp_path: Path) -> None:
    make_stage(tmp_path / "zero", "grpo", prompt_style="zero")
    make_stage(tmp_path / ".work" / "zero", "grpo", model=False, prompt_style="zero")
    assert by_stage(Run("out", tmp_path))["zero"].folder == tmp_path / "zero" / "model"


def test_a_stage_trained_on_files_of_another_machine_has_the_style_it_was_asked_in(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"recipe": "/no/such/machine/recipe.toml"}')
    for name in ("a", "b", "c"):
        make_stage(tmp_path / name, "sft", data="rows.jsonl")
    make_stage(tmp_path / "eval" / "a", "eval", model=False, style="zero")
    make_stage(tmp_path / "samples", "rejection", model=False, **{"model_": 1})
    manifest = {"kind": "rejection", "key": {"config": {"model": "b", "prompt_style": "zero"}}}
    (tmp_path / "samples" / "manifest.json").write_text(json.dumps(manifest))
    found = by_stage(Run("out", tmp_path))
    assert [found[name].style for name in ("a", "b", "c")] == ["zero", "zero", "chat"]


def test_a_base_that_is_nowhere_is_a_sentence(tmp_path: Path) -> None:
    make_stage(tmp_path / "zero", "grpo", prompt_style="zero")
    make_stage(tmp_path / "eval" / "base", "eval", model=False)
    (tmp_path / "eval" / "base" / "request.json").write_text('{"model": "/no/such/base"}')
    manifest = json.loads((tmp_path / "zero" / "manifest.json").read_text())
    manifest["key"]["inputs"] = {"model base": "an-unknown-fingerprint"}
    (tmp_path / "zero" / "manifest.json").write_text(json.dumps(manifest))
    assert by_stage(Run("out", tmp_path))["base"].fault == (
        "The base model of out is not known here; the run's files name /no/such/base, which is not on this "
        "machine. Its stages can be asked."
    )


def test_a_guests_base_is_found_on_another_machine_by_its_content(tmp_path: Path) -> None:
    small = find_checkpoint("tinyworld-small")
    assert small is not None
    fingerprint = Fingerprints(tmp_path / "none.json", writes=False).model(str(small))
    make_stage(tmp_path / "zero", "grpo", prompt_style="zero")
    manifest = json.loads((tmp_path / "zero" / "manifest.json").read_text())
    manifest["key"]["inputs"] = {"model base": fingerprint}
    (tmp_path / "zero" / "manifest.json").write_text(json.dumps(manifest))
    base = by_stage(Run("out", tmp_path))["base"]
    assert (base.folder, base.fault, base.note) == (small, None, "")


def test_a_base_whose_files_have_changed_is_asked_with_a_note(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    run_dir = tmp_path / "out"
    make_stage(run_dir / "eval" / "base", "eval", model=False)
    (run_dir / "eval" / "base" / "request.json").write_text(json.dumps({"model": str(base)}))
    manifest = {"kind": "eval", "key": {"config": {}, "inputs": {"model base": "another-fingerprint"}}}
    (run_dir / "eval" / "base" / "manifest.json").write_text(json.dumps(manifest))
    found = by_stage(Run("out", run_dir))["base"]
    assert (found.folder, found.note) == (base, "Its files have changed since the run started from it.")


def test_damaged_files_leave_a_run_without_models_and_no_error(tmp_path: Path) -> None:
    for name, text in (("a", "["), ("b", '{"key": 3}'), ("c", '{"kind": 5, "key": {"config": [1]}}')):
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "manifest.json").write_text(text)
        (tmp_path / name / "model" / "config.json").write_text(
            '{"architectures": 7}' if name == "b" else "{}"
        )
    (tmp_path / "run.json").write_text('{"recipe": 7, "settings": "x"}')
    assert list(by_stage(Run("out", tmp_path))) == ["base", "b"]


@pytest.mark.slow
def test_every_style_is_the_recipes_also_in_a_copied_folder(route: Path, tmp_path: Path) -> None:
    recipe = load_recipe(route.parent / "route.toml")
    for folder in (route, tmp_path / "copy"):
        if folder != route:
            shutil.copytree(route, folder)
        (run,) = find_runs([folder])
        found = by_stage(run)
        assert list(found) == ["base", "zero", "dev1", "dev2", "dev3", "r1", "distill", "warm"]
        for name, speaker in found.items():
            assert speaker.style == style_of(recipe, name), name
            assert speaker.fault is None
            inside = speaker.folder.is_relative_to(folder)
            assert inside == (name != "base")
        assert found["base"].folder == route.parent / "base"
