"""The stage table as Markdown, and several runs in one."""

import json

import pytest

from r1kit.errors import DataError
from r1kit.report import combine_runs, stage_table_markdown
from r1kit.report.reader import read_run
from r1kit.report.table import Cell, cell_text, stage_table
from tests.report.synthetic import make_run


def write_summary(run, stage, reasoning, **others):
    folder = run / "eval" / stage
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({"reasoning": reasoning, **others}), encoding="utf-8")


def interval(value):
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "num_problems": 4}


def test_a_missing_number_is_a_dash_and_a_row_without_any_is_left_out(tmp_path):
    write_summary(tmp_path, "base", {"pass@1": interval(0.25), "k": 4})
    write_summary(tmp_path, "zero", {"pass@1": interval(0.75), "well_formed": 0.0, "k": 4})
    lines = stage_table_markdown(tmp_path).splitlines()
    assert lines == [
        "| | base | zero |",
        "|---|---|---|",
        "| pass@1 | 0.250 [0.150, 0.350] | 0.750 [0.650, 0.850] |",
        "| well formed | – | 0.000 |",
    ]


def test_stages_stand_in_the_recipe_s_order_with_controls_and_strangers_behind(tmp_path):
    for name in ("zero_random", "r1", "mine", "base", "dev1", "zero"):
        write_summary(tmp_path, name, {"pass@1": interval(0.5)})
    table = stage_table(read_run(tmp_path))
    assert table.stages == ("base", "zero", "dev1", "r1", "zero_random", "mine")


def test_one_tier_needs_no_rows_of_its_own_and_two_have_the_ordinary_one_first(tmp_path):
    one = {"pass@1": interval(0.5), "by_tier": {"hard": {"pass@1": interval(0.5)}}}
    write_summary(tmp_path / "a", "base", one)
    assert [row.label for row in stage_table(read_run(tmp_path / "a")).rows] == ["pass@1"]
    two = {**one, "by_tier": {**one["by_tier"], "ordinary": {"pass@1": interval(0.6)}}}
    write_summary(tmp_path / "b", "base", two)
    labels = [row.label for row in stage_table(read_run(tmp_path / "b")).rows]
    assert labels == ["pass@1", "pass@1, ordinary", "pass@1, hard"]


def test_a_run_that_is_not_evaluated_has_no_table(tmp_path):
    (tmp_path / "zero").mkdir()
    (tmp_path / "zero" / "manifest.json").write_text("{}", encoding="utf-8")
    assert stage_table_markdown(tmp_path) == ""


def test_runs_are_combined_as_mean_least_and_most(tmp_path):
    for seed, value in ((0, 0.2), (1, 0.5), (2, 0.8)):
        write_summary(tmp_path / str(seed), "base", {"pass@1": interval(value)}, seed=seed)
    combined = combine_runs([tmp_path / "0", tmp_path / "1", tmp_path / "2"])
    assert combined.table.rows[0].cells == (Cell(pytest.approx(0.5), 0.2, 0.8),)
    assert "seeds 0, 1, 2" in combined.markdown
    assert "| pass@1 | 0.500 [0.200, 0.800] |" in combined.markdown
    assert "<small>0.200 – 0.800</small>" in combined.html


def test_a_number_that_one_run_lacks_is_not_averaged_over_the_others(tmp_path):
    write_summary(tmp_path / "a", "base", {"pass@1": interval(0.2), "well_formed": 0.5})
    write_summary(tmp_path / "b", "base", {"pass@1": interval(0.4)})
    combined = combine_runs([tmp_path / "a", tmp_path / "b"])
    assert [row.label for row in combined.table.rows] == ["pass@1", "well formed"]
    assert combined.table.rows[1].cells == (None,)


def test_runs_without_a_common_stage_are_refused(tmp_path):
    write_summary(tmp_path / "a", "base", {"pass@1": interval(0.2)})
    write_summary(tmp_path / "b", "zero", {"pass@1": interval(0.4)})
    with pytest.raises(DataError, match="no stage is evaluated in all"):
        combine_runs([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(DataError, match="no runs"):
        combine_runs([])


def test_the_seed_is_read_from_a_manifest(tmp_path):
    assert read_run(make_run(tmp_path / "run", seed=7, stages=("zero",))).seed == 7


def test_a_cell_with_an_interval_shows_it():
    assert cell_text(Cell(0.5), ".2f") == "0.50"
    assert cell_text(None, ".2f") == "–"
