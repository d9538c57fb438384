"""Plans of a small recipe: what is done, ranges, money, and what can't be told; and the command."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from r1kit import cli
from r1kit.cli.plan import LEFT_OUT
from r1kit.errors import UserError
from r1kit.model.loading import load_skeleton
from r1kit.pipeline.manifest import Key, Manifest, write_manifest
from r1kit.pipeline.planning import measure
from r1kit.pipeline.planning.estimate import (
    ROOFLINE_RANGE,
    check_price,
    cost_of,
    is_done,
    plan_here,
    plan_on_gpus,
)
from r1kit.pipeline.planning.gpus import GPUS
from r1kit.pipeline.planning.observed import Observed
from r1kit.pipeline.planning.roofline import GpuPace, size_of
from r1kit.pipeline.planning.work import count_work
from r1kit.pipeline.recipe import resolved
from tests.pipeline.planning.recipes import RECIPE, guesses, job_of, make_context

H100 = GPUS["H100"]


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["r1", "plan", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def finish(context: Any, name: str, seconds: float) -> None:
    """The stage, finished with the configuration that it has."""
    job, place = job_of(context, name), context.folder.finished(name)
    place.mkdir(parents=True)
    key = Key(json.loads(json.dumps(resolved(job.config))), {}, {})
    write_manifest(place, Manifest(name, job.kind, key, finished="now", seconds=seconds))


def test_a_stage_is_the_time_of_its_pieces_with_a_range_and_a_ceiling(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    plan = plan_on_gpus(context, H100, 2)
    assert plan.devices == 2
    assert [stage.name for stage in plan.stages] == ["zero", "samples", "sft", "pairs", "helpful", "eval/sft"]
    zero = plan.stages[0]
    pace, size = GpuPace(H100, 2, 16), size_of(load_skeleton("tinyworld"))
    pieces = count_work(job_of(context, "zero"), context.recipe, guesses(context))

    def seconds(factor: float) -> float:
        return sum(pace.seconds(size, piece.at_length(factor)) for piece in pieces)

    assert zero.seconds == pytest.approx(seconds(1))
    assert zero.low == pytest.approx(seconds(0.33) * ROOFLINE_RANGE[0])
    assert zero.high == pytest.approx(seconds(3) * ROOFLINE_RANGE[1])
    assert zero.at_limit == pytest.approx(seconds(3))  # 30 tokens: three times a third of the limit
    assert plan.total() == pytest.approx(sum(stage.seconds or 0 for stage in plan.stages))


def test_what_is_finished_counts_as_done_until_its_table_changes(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    finish(context, "zero", 12.5)
    zero = plan_on_gpus(context, H100, 1).stages[0]
    assert (zero.state, zero.spent, zero.seconds) == ("done", 12.5, 0)
    changed = make_context(tmp_path, settings=["stages.zero.steps=5"])
    assert not is_done(changed, job_of(changed, "zero"))
    assert (plan_on_gpus(changed, H100, 1).stages[0].seconds or 0) > 0


def test_a_stage_under_way_has_the_rest_to_come(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    whole = plan_on_gpus(context, H100, 1).stages[0]
    work = context.folder.work("zero")
    work.mkdir(parents=True)
    row = '{"step": %d, "completion/length_mean": 10.0, "groups/trained": 3, "groups/sampled": 4}\n'
    (work / "metrics.jsonl").write_text(row % 1 + row % 2, encoding="utf-8")
    (work / "progress.json").write_text('{"seconds": 7.0}', encoding="utf-8")
    rest = plan_on_gpus(context, H100, 1).stages[0]
    assert (rest.state, rest.spent) == ("begun", 7.0)
    assert rest.seconds == pytest.approx((whole.seconds or 0) / 2)
    assert rest.length is not None
    assert rest.length.source == "logged"


def test_an_earlier_run_gives_lengths(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    place = tmp_path / "earlier" / "zero"
    place.mkdir(parents=True)
    (place / "metrics.jsonl").write_text('{"step": 1, "completion/length_mean": 17.0}\n', encoding="utf-8")
    write_manifest(place, Manifest("zero", "grpo", Key({}, {}, {}), finished="now"))
    zero = plan_on_gpus(context, H100, 1, like=tmp_path / "earlier").stages[0]
    assert zero.length is not None
    assert (zero.length.tokens, zero.length.of) == (17.0, str(tmp_path / "earlier"))
    assert Observed(lengths=(17.0,)).mean_length(3) == 17.0


def test_money_is_time_times_price_times_devices() -> None:
    assert cost_of(7200, price=2.5, devices=4) == 20
    check_price(0)
    with pytest.raises(
        UserError, match=r"^--price -2: should be 0 or more, what an hour of one device costs\.$"
    ):
        check_price(-2)
    with pytest.raises(UserError, match="--price nan"):
        check_price(float("nan"))


def test_a_model_that_is_not_here_is_a_sentence_and_not_in_the_sum(tmp_path: Path) -> None:
    context = make_context(tmp_path, RECIPE.replace('base = "tinyworld"', 'base = "nobody/nothing"'))
    plan = plan_on_gpus(context, H100, 1)
    assert all(stage.seconds is None for stage in plan.stages)
    assert "'nobody/nothing' is neither a local folder" in plan.stages[0].why
    assert plan.total() == 0
    with pytest.raises(UserError, match="--gpus 0: should be 1 or more"):
        plan_on_gpus(context, H100, 0)


@pytest.fixture
def _measures_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SECONDS", 1.0)


@pytest.mark.usefixtures("_measures_for_a_moment")
def test_a_measured_plan_has_all_stages_and_leaves_nothing_behind(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    plan = plan_here(context)
    assert plan.on == "this machine (cpu)"
    assert [stage.seconds is None for stage in plan.stages] == [False] * 6
    for stage in plan.stages:
        assert 0 < stage.low < (stage.seconds or 0) < stage.high
    assert {stage.length.source for stage in plan.stages if stage.length is not None} == {
        "sampled", "sampled from its ancestor",
    }  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.toml"]


@pytest.mark.usefixtures("_measures_for_a_moment")
def test_a_measured_plan_of_a_model_that_is_not_here_says_so(tmp_path: Path) -> None:
    context = make_context(tmp_path, RECIPE.replace('base = "tinyworld"', 'base = "nobody/nothing"'))
    plan = plan_here(context)
    assert all(stage.seconds is None for stage in plan.stages)
    assert any("So there is no time for zero, samples, pairs, eval/sft." in note for note in plan.notes)


@pytest.mark.slow
def test_ranks_measure_together_and_the_first_one_prints(tmp_path: Path) -> None:
    make_context(tmp_path)
    command = [sys.executable, "-m", "r1kit", "plan", str(tmp_path / "recipe.toml"), "--json"]
    settings = ["--stages", "zero", "--set", "run.processes=2"]
    done = subprocess.run([*command, *settings], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("Measuring for about 40 seconds; --no-measure leaves it out.\n")
    found = json.loads(done.stdout)
    assert (found["on"], found["devices"]) == ("this machine (2 ranks, cpu)", 1)
    assert [stage["seconds"] > 0 for stage in found["stages"]] == [True]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.toml"]


def test_the_command_prints_what_it_leaves_out_first_then_times_and_money(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    make_context(tmp_path)
    assert call(monkeypatch, tmp_path / "recipe.toml", "--gpu", "h100", "--gpus", 2, "--price", 3) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == LEFT_OUT
    assert out[1].split() == ["stage", "kind", "state", "time", "from", "to", "cost", "what"]
    zero = next(line for line in out if line.startswith("zero"))
    assert "84 completions of 10 tokens (a third of the limit, a guess); 24 updates on" in zero
    assert any(line.startswith("Times on 2 x H100; a cost is for all 2 devices.") for line in out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.toml"]


def test_the_command_does_not_add_up_what_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    make_context(tmp_path, RECIPE.replace('base = "tinyworld"', 'base = "nobody/nothing"'))
    assert call(monkeypatch, tmp_path / "recipe.toml", "--gpu", "h100", "--price", 3) == 0
    total = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("all"))
    assert total.split() == ["all", "to", "come", "?"]


def test_the_command_gives_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    context = make_context(tmp_path)
    options = ("--gpu", "H100", "--gpus", 4, "--price", 2, "--json", "--stages", "zero")
    assert call(monkeypatch, tmp_path / "recipe.toml", *options) == 0
    found = json.loads(capsys.readouterr().out)
    assert [stage["name"] for stage in found["stages"]] == ["zero"]
    seconds = plan_on_gpus(context, H100, 4, ["zero"]).total()
    assert found["seconds"]["seconds"] == pytest.approx(seconds)
    assert found["cost"]["seconds"] == pytest.approx(seconds / 3600 * 2 * 4)
    assert found["memory"][0]["peak_bytes"] > 1e6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gpu", "H80"], "--gpu H80: no such GPU in the table; did you mean `H800`?"),
        (["--price", "-1"], "--price -1: should be 0 or more, what an hour of one device costs."),
        (["--no-measure", "--price", "1"], "--price needs a time: leave out --no-measure, or name a --gpu."),
        (["--gpus", "8"], "--gpus 8 is of a named GPU: add --gpu, such as --gpu H100."),
        (["--stages", "zreo"], "no stage `zreo` in the recipe; did you mean `zero`?"),
        (["--gpu", "A100", "--like", "none"], "--like none: no such folder; name the folder of a run"),
    ],
)
def test_what_the_user_can_correct_is_one_sentence(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_context(tmp_path)
    assert call(monkeypatch, tmp_path / "recipe.toml", *options) == 2
    assert capsys.readouterr().err.startswith(message)
