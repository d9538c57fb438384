"""The whole route, nothing faked, on a random model: once straight through, once stopped again and again."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from r1kit.data.jsonl import read_jsonl
from r1kit.pipeline.interrupt import RunInterrupted
from r1kit.pipeline.manifest import read_manifest
from r1kit.pipeline.run import RunResult, run_recipe
from tests.pipeline.fakes import Notes
from tests.pipeline.tiny_route import make_route

STAGES = [
    "warm",
    "zero",
    "cold_start",
    "dev1",
    "dev2",
    "pairs",
    "helpful",
    "rejection",
    "dev3",
    "labels",
    "safety",
]
STAGES += ["r1", "distill"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_route(tmp_path_factory.mktemp("route"))


@pytest.fixture(scope="module")
def result(recipe: Path) -> RunResult:
    return run_recipe(recipe)


def test_every_stage_is_done_and_in_place(result: RunResult) -> None:
    assert [row.name for row in result.rows] == [*STAGES, "eval/base", "eval/zero", "eval/r1"]
    assert {row.state for row in result.rows} == {"done"}
    assert not (result.folder / ".work").exists()


def test_models_load_without_anything_of_ours(result: RunResult) -> None:
    for name in ("warm", "zero", "dev1", "dev2", "dev3", "r1", "distill"):
        folder = result.folder / name / "model"
        model = AutoModelForCausalLM.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert model.generation_config.eos_token_id == tokenizer.eos_token_id
        assert tokenizer.chat_template
    for name in ("helpful", "safety"):
        model = AutoModelForSequenceClassification.from_pretrained(result.folder / name / "model")
        assert model.config.num_labels == 1


def test_the_report_and_the_evaluations_are_written(result: RunResult) -> None:
    assert result.report == result.folder / "report.html"
    assert result.report.stat().st_size > 10_000
    for name in ("base", "zero", "r1"):
        summary = json.loads((result.folder / "eval" / name / "summary.json").read_text(encoding="utf-8"))
        assert summary["style"] == ("chat" if name == "r1" else "zero")
        assert sum(1 for _ in read_jsonl(result.folder / "eval" / name / "generations.jsonl")) == 6 * 4 + 12


def test_only_right_answers_were_kept_as_data(result: RunResult) -> None:
    for name in ("cold_start", "rejection"):
        rows = [row for _, row in read_jsonl(result.folder / name / "data.jsonl")]
        sums = [row for row in rows if row["domain"] == "sums"]
        assert sums
        for row in sums:
            a, b = (
                int(word)
                for word in row["messages"][0]["content"].removesuffix("?").split()
                if word.isdigit()
            )
            assert str(a + b) in row["response"].split("</think>")[1]


def test_preference_rewards_enter_r1_late(result: RunResult) -> None:
    rows = [row for _, row in read_jsonl(result.folder / "r1" / "metrics.jsonl")]
    assert ["reward/helpful" in row for row in rows] == [False, True]


def test_a_second_run_does_nothing(recipe: Path, result: RunResult) -> None:
    before = {path: path.stat().st_mtime_ns for path in result.folder.rglob("manifest.json")}
    progress = Notes()
    again = run_recipe(recipe, progress=progress)
    assert {path: path.stat().st_mtime_ns for path in again.folder.rglob("manifest.json")} == before
    assert progress.notes == [f"{row.name}: done" for row in result.rows]


@dataclass
class Interrupter(Notes):
    """Progress that stops the run once at each of these places."""

    places: dict[str, int] = field(default_factory=dict)
    part: str = ""

    def start(self, stage: str, total: int, unit: str) -> None:
        self.part = stage

    def step(self, done: int, row: Mapping[str, float]) -> None:
        if done >= self.places.get(self.part, done + 1):
            del self.places[self.part]
            raise KeyboardInterrupt


def test_a_run_that_is_stopped_everywhere_ends_with_the_same_bits(recipe: Path, result: RunResult) -> None:
    output = result.folder.with_name("stopped")
    output.mkdir()
    shutil.copytree(result.folder / "warm", output / "warm")  # the longest stage, and SFT: dev1 stands for it
    progress = Interrupter(
        places={"zero": 1, "dev1": 2, "rejection": 16, "safety": 3, "r1": 1, "eval/zero: evaluating": 20}
    )
    stops = 0
    while progress.places:
        with pytest.raises(RunInterrupted):
            run_recipe(recipe, output_dir=output, progress=progress)
        stops += 1
        assert stops <= 6, progress.places
    run_recipe(recipe, output_dir=output, progress=progress)
    assert stops == 6
    compared = 0
    for path in sorted(result.folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(result.folder).parts)
        if not hidden and path.name in ("model.safetensors", "data.jsonl", "generations.jsonl"):
            same = output / path.relative_to(result.folder)
            assert same.read_bytes() == path.read_bytes(), path
            compared += 1
    assert compared == 9 + 4 + 3
    manifest = read_manifest(output / "r1")
    assert manifest is not None
    assert manifest.finished is not None
