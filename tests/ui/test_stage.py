"""The pages of curves: what is shown, how addresses are read, and files that are not as they should be."""

import csv
import io
import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from r1kit.training.alarms import ALARMS
from r1kit.ui.folders import find_runs
from r1kit.ui.stage.view import View
from tests.ui.made_runs import append, make_evaluation, make_stage, rl_rows

Make = Callable[..., TestClient]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two seeds of one recipe; the second is still in its stage dev2."""
    for name, seed, offset in (("a", 0, 0.0), ("b", 1, 0.5)):
        run = tmp_path / "runs" / name
        rows = [{"step": 0, "eval/held_out_accuracy": 0.25}, *rl_rows(1, 30, offset=offset)]
        config = {"steps": 30 + seed, "problems": {"sums": 1.0}}
        make_stage(
            run, "zero", rows, config=config, inputs={"model base": "1f2e", "problems sums": "3d"}, seed=seed
        )
        inputs = {"model zero": "77", "sft data zero": "a", "problems zero": "b"}
        make_stage(run, "dev2", rl_rows(1, 4), inputs=inputs, work=name == "b")
        make_stage(run, "cold_start", kind="cold_start")
        (run / "run.json").write_text("{}")
    return tmp_path / "runs"


def charts_in(text: str) -> dict[str, dict]:
    """The points of the charts of a page, by name."""
    found = re.findall(r'data-chart="([^"]*)" data-name="([^"]*)"', text)
    return {unescape(name): json.loads(unescape(data)) for data, name in found}


def test_all_stages_have_their_main_curves(client_of: Make, runs: Path) -> None:
    page = client_of(runs).get("/runs/b/stages")
    assert page.status_code == 200
    for stage in ("zero", "dev2", "cold_start"):
        assert f'href="/runs/b/stages/{stage}"' in page.text
    assert "Makes data, and logs no curves." in page.text
    assert '<span class="state stopped">stopped</span>' in page.text
    assert len(re.findall('class="plot"', page.text)) == 6


def test_a_stage_shows_its_curves_in_the_reports_order_and_what_it_is(client_of: Make, runs: Path) -> None:
    make_evaluation(runs / "a", "zero", {"p1": [True, False], "p2": [True, True]}, low=0.5, high=0.875)
    client = client_of(runs)
    text = client.get("/runs/a/stages/zero").text
    charts = charts_in(text)
    assert list(charts)[:3] == ["Reward: the sum and its parts", "Accuracy", "completion/length_mean"]
    reward = charts["Reward: the sum and its parts"]["lines"]
    assert [line["label"] for line in reward] == ["sum", "accuracy"]
    assert reward[0]["steps"] == list(range(1, 31))
    assert reward[0]["y"][:3] == [0.1, 0.2, 0.3]
    assert "0.500 to 0.875" in text
    assert "<li>model: base</li>" in text
    assert "steps</code></th><td>30</td>" in text
    assert '<a href="/runs/a/stages/dev2">dev2</a>' in text  # used by
    dev2 = client.get("/runs/a/stages/dev2").text
    assert 'model: <a href="/runs/a/stages/zero">zero</a>' in dev2
    assert "<li>problems: zero</li>" in dev2  # a problem set is no stage
    # every metric can be found, and is drawn when it is looked at
    assert set(re.findall(r'data-metric="([^"]*)"', text)) == {
        *rl_rows(1, 1)[0].keys() - {"step"},
        "eval/held_out_accuracy",
    }
    part = client.get("/runs/a/stages/zero/chart?chart=sampler/logratio_max").text
    assert charts_in(part)["sampler/logratio_max"]["lines"][0]["y"] == [1e-5] * 30


def test_links_lead_to_the_other_parts_of_what_is_there(client_of: Make, runs: Path) -> None:
    (runs / "a" / "zero" / "rollouts").mkdir()
    (runs / "a" / "zero" / "model").mkdir()
    (runs / "a" / "cold_start" / "data.jsonl").write_text("")
    client = client_of(runs)
    text = client.get("/runs/a/stages/zero").text
    assert 'href="/runs/a/rollouts?stage=zero"' in text
    assert 'href="/runs/a/chat?stage=zero"' in text
    assert "/runs/a/data/" not in text
    assert 'href="/runs/a/data/cold_start"' in client.get("/runs/a/stages/cold_start").text


def test_alarms_are_marked_where_they_began_with_what_to_do(client_of: Make, runs: Path) -> None:
    rows = rl_rows(31, 40)
    for row in rows[2:5]:
        row["alarm/entropy"] = 1.0
    append(runs / "a" / "zero", rows)
    client = client_of(runs)
    text = client.get("/runs/a/stages/zero?chart=policy/entropy").text
    assert f"entropy collapse, steps 33 to 35. {ALARMS['entropy'].advice}" in unescape(text)
    assert text.count('class="alarm-mark"') == 2  # large and small, and on no other chart
    # at step 33 of 1 to 40, between 64 and 1028
    place = 64 + (33 - 1) / 39 * (1040 - 64 - 12)
    assert f'<line x1="{place:.1f}" x2="{place:.1f}"' in text


def test_several_runs_lie_over_each_other(client_of: Make, runs: Path) -> None:
    client = client_of(runs)
    address = "/runs/a/stages/zero?with=b:zero&with=a:dev2"
    charts = charts_in(client.get(address).text)
    lines = charts["reward/mean"]["lines"]
    assert [(line["label"], line["colour"]) for line in lines] == [
        ("a:zero", "var(--series-1)"),
        ("b:zero", "var(--series-2)"),
        ("a:dev2", "var(--series-3)"),
    ]
    assert [line["y"][0] for line in lines] == [0.1, 0.6, 0.1]
    # a colour is a run's in every chart, also where the first has nothing to show
    append(runs / "b" / "zero", [{"step": step, "kl/ref": 0.5} for step in (31, 32)])
    only = charts_in(client.get(address).text)["kl/ref"]["lines"]
    assert [(line["label"], line["colour"]) for line in only] == [("b:zero", "var(--series-2)")]
    text = client.get("/runs/a/stages/zero?with=b:none&with=x").text
    assert "b:none is not laid over: there is no such run and stage here." in text
    assert "x is not laid over" in text
    # offered: stages of this kind, those of this name first
    offered = re.findall(r'name="with" value="([^"]*)"', client.get("/runs/a/stages/zero").text)
    assert offered == ["b:zero", "a:dev2", "b:dev2"]
    # a link to a chart of several metrics still leads somewhere
    assert client.get(address + "&chart=" + quote("Reward: the sum and its parts")).status_code == 200


def test_axes_ranges_and_smoothing_are_in_the_address(client_of: Make, runs: Path) -> None:
    client = client_of(runs)
    query = "chart=reward/mean&x=time&from=0:10&to=40&smooth=ema&by=0.5&low=0&high=2"
    chart = charts_in(client.get(f"/runs/a/stages/zero?{query}").text)["reward/mean"]
    (line,) = chart["lines"]
    assert (chart["x"], chart["y"]) == ([10, 40], [0, 2])
    assert line["x"] == [2 * step for step in range(5, 21)]
    assert line["steps"] == list(range(5, 21))
    # smoothed over all that came before, not only over what is shown: weights 1/2, 1/4, ... of 0.1 to 0.5
    weights = [0.5**n for n in range(5)]
    expected = sum(w * (5 - n) / 10 for n, w in enumerate(weights)) / sum(weights)
    assert line["smooth"][0] == pytest.approx(expected)
    assert 'value="10"' in client.get(f"/runs/a/stages/zero?{query}").text


def test_a_view_and_its_address_are_the_same() -> None:
    assert View().query() == ""
    view = View(x="time", smooth="mean", by=7, log=True, start=1.5, overlays=("a:b:zero", "c:zero"))
    assert view.query(chart="a b") == (
        "with=a%3Ab%3Azero&with=c%3Azero&x=time&smooth=mean&by=7&log=1&from=1.5&chart=a+b"
    )


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("x=hours", "x = 'hours' in the address: should be one of step, time, tokens."),
        ("smooth=much", "smooth = 'much' in the address: should be one of auto, none, mean, ema."),
        ("smooth=ema&by=1", "by = 1 in the address: the factor is from 0 to below 1."),
        ("smooth=mean&by=2.5", "by = 2.5 in the address: a running mean is over 1 or more points."),
        ("from=<b>", "from = '<b>' in the address is not a number."),
        ("from=nan", "from = 'nan' in the address is not a number."),
        ("low=1e999", "low = '1e999' in the address is not a number."),
        ("from=5&to=5", "to = 5 in the address has to be above 5."),
        ("&".join(f"with=a:{n}" for n in range(12)), "12 curves over one another: 11 is the most."),
    ],
)
def test_what_an_address_can_not_say_is_a_sentence(
    client_of: Make, runs: Path, query: str, sentence: str
) -> None:
    answer = client_of(runs).get(f"/runs/a/stages/zero?{query}")
    assert answer.status_code == 422
    assert sentence in unescape(answer.text)


def test_what_is_not_there_is_a_sentence(client_of: Make, runs: Path) -> None:
    client = client_of(runs)
    for address, sentence in (
        ("/runs/a/stages/none", "no stage 'none' in it; there are: zero, cold_start, dev2"),
        ("/runs/a/stages/zero?chart=none", "There is no chart 'none' of zero."),
        ("/runs/a/stages/zero/curves.svg", "There is no chart '' of zero."),
    ):
        answer = client.get(address)
        assert answer.status_code == 404
        assert sentence in unescape(answer.text)
    text = client.get("/runs/a/stages/cold_start?x=time").text
    assert "This stage makes data and logs no curves." in text
    append(runs / "a" / "cold_start", [{"step": 1, "loss": 2.0}])
    assert (
        "does not log what it takes to draw it over time"
        in client.get("/runs/a/stages/cold_start?x=time").text
    )


def test_damaged_files_are_sentences_and_the_rest_is_shown(client_of: Make, runs: Path) -> None:
    folder = runs / "a" / "zero"
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("half\n")
        file.write(json.dumps({"step": 31, "reward/mean": 3.25}) + '\n{"step": 32, "rew')
    (folder / "manifest.json").write_text('{"kind": "grpo", "key": 3, "environment": []}')
    make_evaluation(runs / "a", "zero", {"p1": [True, False]})
    (runs / "a" / "eval" / "zero" / "summary.json").write_text('{"reasoning": {"pass@1": {"value": "high"}}}')
    client = client_of(runs)
    answer = client.get("/runs/a/stages/zero")
    assert answer.status_code == 200
    assert "metrics.jsonl:32 is damaged" in answer.text
    assert "is not a summary that this version can read" in answer.text
    assert charts_in(answer.text)["Reward: the sum and its parts"]["lines"][0]["y"][-1] == 3.25
    (folder / "manifest.json").write_text("[")
    answer = client.get("/runs/a/stages/zero")
    assert answer.status_code == 200
    assert "manifest.json is damaged" in answer.text


def test_names_that_are_markup_stay_text(client_of: Make, runs: Path) -> None:
    name = "x/<img src=x onerror=alert(1)>\x1b[31m"
    append(runs / "a" / "zero", [{"step": step, name: step} for step in (31, 32)])
    client = client_of(runs)
    for address in (
        "/runs/a/stages/zero",
        f"/runs/a/stages/zero?chart={quote(name)}",
        f"/runs/a/stages/zero/chart?chart={quote(name)}",
        f"/runs/a/stages/zero/curves.svg?chart={quote(name)}",
    ):
        answer = client.get(address)
        assert answer.status_code == 200
        assert "<img" not in answer.text


def test_odd_names_of_folders_are_followed(client_of: Make, tmp_path: Path) -> None:
    for name in ("a b#1 50%", 'x"><i>é'):
        make_stage(tmp_path / "odd" / name, "zero", rl_rows(1, 3))
    client = client_of(tmp_path)
    runs = find_runs([tmp_path])
    for run in runs:
        base = run.url
        text = client.get(f"{base}/stages").text
        assert f'href="{base}/stages/zero"' in text
        text = client.get(f"{base}/stages/zero?with={quote(run.id)}:zero").text
        assert "<i>" not in text
        links = {unescape(link) for link in re.findall(r'(?:href|hx-get|data-png)="([^"]*)"', text)}
        mine = [link for link in links if link.startswith(f"{base}/stages/zero")]
        assert len(mine) > 8
        assert {client.get(link).status_code for link in mine} == {200}
        assert client.get(f"{base}/report/page").status_code == 200
    text = client.get("/compare?" + "&".join(f"run={quote(run.id)}" for run in runs)).text
    (address,) = re.findall(r'class="open" href="([^"]*)"', text)
    assert client.get(unescape(address)).status_code == 200


def test_numbers_as_csv(client_of: Make, runs: Path) -> None:
    client = client_of(runs)
    answer = client.get("/runs/a/stages/zero/curves.csv?chart=reward/mean&with=b:zero&from=29")
    assert answer.headers["content-disposition"] == 'attachment; filename="a-zero-reward-mean.csv"'
    assert answer.headers["content-type"].startswith("text/csv")
    assert list(csv.reader(io.StringIO(answer.text))) == [
        ["run", "stage", "step", "seconds", "tokens_so_far", "reward/mean"],
        ["a", "zero", "29", "58", "2900", "2.9"],
        ["a", "zero", "30", "60", "3000", "3"],
        ["b", "zero", "29", "58", "2900", "3.4"],
        ["b", "zero", "30", "60", "3000", "3.5"],
    ]
    whole = list(csv.DictReader(io.StringIO(client.get("/runs/a/stages/zero/curves.csv").text)))
    assert len(whole) == 31
    assert (whole[0]["eval/held_out_accuracy"], whole[0]["reward/mean"]) == ("0.25", "")
    append(runs / "a" / "zero", [{"step": 31, "=1+1": 5.0}])
    head = client.get("/runs/a/stages/zero/curves.csv?chart=%3D1%2B1").text.splitlines()[0]
    assert head.endswith(",'=1+1")


def test_a_picture_is_complete_in_itself(client_of: Make, runs: Path) -> None:
    answer = client_of(runs).get("/runs/a/stages/zero/curves.svg?chart=reward/mean&with=b:zero&theme=dark")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["content-disposition"] == 'attachment; filename="a-zero-reward-mean.svg"'
    assert "var(" not in answer.text
    assert "#7fb0ff" in answer.text  # the dark theme's
    assert "b:zero</text>" in answer.text
    assert answer.text.count("<polyline") == 4  # two lines, and their means


def test_a_long_stage_is_a_small_page(client_of: Make, tmp_path: Path) -> None:
    make_stage(
        tmp_path / "run", "zero", [{"step": n, "loss": float(n % 7)} for n in range(20_000)], kind="sft"
    )
    client = client_of(tmp_path)
    text = client.get("/runs/run/stages/zero?chart=loss").text
    assert len(text) < 250_000
    assert "The lowest and highest of each stretch" in text
    assert len(client.get("/runs/run/stages/zero/curves.csv?chart=loss").text.splitlines()) == 20_001
