"""Runs side by side: evaluations, paired differences, recipes and curves."""

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from r1kit.evaluate.statistics import paired_difference
from tests.ui.made_runs import make_evaluation, make_stage, rl_rows
from tests.ui.test_stage import charts_in

Make = Callable[..., TestClient]

SCORES = {
    "a": {"p1": [True, False], "p2": [True, True], "hard1": [False, False]},
    "b": {"p1": [True, True], "p2": [True, True], "hard1": [True, False]},
}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, seed in (("a", 0), ("b", 1)):
        run = tmp_path / "runs" / name
        config = {"steps": 30, "optimizer": {"learning_rate": 1e-4 * (1 + seed), "betas": [0.9, 0.95]}}
        inputs = {"model base": "aaaa1111bbbb" if seed else "cccc2222dddd", "problems sums": "same"}
        make_stage(run, "zero", rl_rows(1, 30, offset=seed), config=config, inputs=inputs, seed=seed)
        make_evaluation(run, "zero", SCORES[name], low=0.25, high=0.875)
    make_stage(tmp_path / "runs" / "b", "dev1", [{"step": 1, "loss": 1.0}], kind="sft")
    return tmp_path / "runs"


def table_of(text: str, label: str) -> list[list[str]]:
    """The rows of the table in the region of this name, as text."""
    region = text[text.index(f'aria-label="{label}"') :]
    rows = re.findall(r"<tr>(.*?)</tr>", region[: region.index("</table>")], re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    return [[unescape(re.sub(r"<[^>]*>", " ", cell)).strip() for cell in row] for row in cells]


def test_two_runs_side_by_side(client_of: Make, runs: Path) -> None:
    text = client_of(runs).get("/compare?run=a&run=b").text
    head, first, *_ = table_of(text, "Evaluations of zero")
    assert head == ["number", "a", "b"]
    # means over problems: (1/2 + 1 + 0) / 3, and (1 + 1 + 1/2) / 3
    assert [" ".join(cell.split()) for cell in first] == [
        "pass@1",
        "0.500 0.250 to 0.875",
        "0.833 0.250 to 0.875",
    ]
    value, low, high = paired_difference({"p1": 1.0, "p2": 1.0, "h": 0.5}, {"p1": 0.5, "p2": 1.0, "h": 0.0})
    difference = table_of(text, "Differences of zero")[1]
    assert difference[0] == "b − a"
    assert difference[1].split() == [f"{value:+.3f}", f"{low:+.3f}", "to", f"{high:+.3f}"]
    assert difference[2].split()[0] == "+0.500"  # the hard tier's one problem
    assert table_of(text, "Mean over the runs")[1][1].split()[0] == "0.667"


def test_only_what_differs_of_the_recipes_is_listed(client_of: Make, runs: Path) -> None:
    rows = table_of(client_of(runs).get("/compare?run=a&run=b").text, "Differences of the recipes")
    assert rows == [
        ["stage", "setting", "a", "b"],
        ["zero", "optimizer.learning_rate", "0.0001", "0.0002"],
        ["zero", "run.seed", "0", "1"],
        ["zero", "contents of model base", "cccc2222", "aaaa1111"],
        ["dev1", "the stage itself", "–", "there"],
    ]
    same = client_of(runs).get("/compare?run=a&run=a").text
    assert "Choose two or more." in same


def test_curves_lie_over_each_other(client_of: Make, runs: Path) -> None:
    client = client_of(runs)
    text = client.get("/compare?run=a&run=b").text
    lines = charts_in(text)["reward/mean"]["lines"]
    assert [(line["label"], line["y"][0]) for line in lines] == [("a:zero", 0.1), ("b:zero", 1.1)]
    (address,) = set(re.findall(r'class="open" href="([^"]*)"', text))
    assert address == "/runs/a/stages/zero?with=b%3Azero"
    assert client.get(address).status_code == 200


def test_other_problems_and_damaged_files_are_sentences(client_of: Make, runs: Path) -> None:
    client = client_of(runs)
    path = runs / "b" / "eval" / "zero" / "generations.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[2:]))
    assert "over different problems: 1 are in one only" in client.get("/compare?run=a&run=b").text
    path.write_text("half")
    assert "generations.jsonl" in unescape(client.get("/compare?run=a&run=b").text)
    path.unlink()
    assert "the samples were not kept" in client.get("/compare?run=a&run=b").text
    (runs / "b" / "eval" / "zero" / "summary.json").write_text('{"reasoning": {"pass@1": {"value": []}}}')
    answer = client.get("/compare?run=a&run=b")
    assert answer.status_code == 200
    assert "is not a summary that this version can read" in answer.text
    (runs / "a" / "zero" / "manifest.json").write_text('{"key": [], "code": 3}')
    assert client.get("/compare?run=a&run=b").status_code == 200


def test_runs_are_chosen_from_a_list(client_of: Make, runs: Path) -> None:
    client = client_of(runs)
    text = client.get("/compare").text
    assert re.findall(r'name="run" value="([^"]*)"', text) == ["a", "b"]
    assert "Choose two or more." in text
    assert "There is no run 'x' here." in unescape(client.get("/compare?run=a&run=x").text)
    many = "&".join(f"run=r{n}" for n in range(13))
    assert client.get(f"/compare?{many}").status_code == 422
    assert "There is only one run here" in client_of(runs / "a").get("/compare").text


@pytest.mark.slow
def test_two_runs_are_compared_in_a_browser(
    runs: Path,
    serve: Callable[..., str],
    open_page: Callable,
    no_serious_faults: Callable,
) -> None:
    address = serve(runs)
    page = open_page(address)
    page.click("text=Compare runs")
    page.check("input[value=a]")
    page.check("input[value=b]")
    page.click("button:text('Compare')")
    page.wait_for_url("**/compare?run=a&run=b")
    assert page.locator("h2").all_inner_texts()[0] == "zero"
    no_serious_faults(page)
    page.click("summary")
    page.click("text=All curves of zero over each other")
    page.wait_for_url("**/runs/a/stages/zero?with=b%3Azero")
    assert page.locator("input[name=with]:checked").get_attribute("value") == "b:zero"
