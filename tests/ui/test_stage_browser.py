"""Curves in a real browser: they grow, are read off, laid over each other, searched and saved."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ui.made_runs import append, make_stage, rl_rows

pytestmark = pytest.mark.slow


def points_of(page: Any, chart: str) -> list[int]:
    """The number of points of each line of a chart, as it is on the page now."""
    data = page.locator(f'.plot[data-name="{chart}"]').first.get_attribute("data-chart")
    return [len(line["y"]) for line in json.loads(data)["lines"]]


def wait_for_points(page: Any, chart: str, number: int) -> None:
    page.wait_for_function(
        """([name, number]) => {
          const plot = document.querySelector(`.plot[data-name="${name}"]`);
          return plot && JSON.parse(plot.dataset.chart).lines[0].y.length === number;
        }""",
        arg=[chart, number],
    )


def test_curves_grow_while_one_looks(
    tmp_path: Path, serve: Callable[..., str], open_page: Callable[..., Any], no_serious_faults: Callable
) -> None:
    work = make_stage(tmp_path / "run", "zero", rl_rows(1, 3), work=True)
    page = open_page(serve(tmp_path), "/runs/run/stages/zero?chart=reward/mean")
    assert points_of(page, "reward/mean") == [3]
    page.click("summary:text('sampler')")
    wait_for_points(page, "sampler/logratio_max", 3)
    no_serious_faults(page)
    # someone is reading values off with the keys, and goes on where they were
    page.focus(".large .plot")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.locator(".large .readout b").inner_text() == "step 2"
    with (work / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "reward/mean": 0.')  # half a row
    append(work, [])
    with (work / "metrics.jsonl").open("a") as file:
        file.write("4}\n")
    append(work, [{**row, "kl/ref": 0.1, "sync/lag": 1.0} for row in rl_rows(5, 8)])
    wait_for_points(page, "reward/mean", 8)
    wait_for_points(page, "sampler/logratio_max", 7)  # the half row had only its reward
    page.wait_for_selector('[data-metric="sync/lag"]', state="attached")  # a metric that was not there
    assert page.locator('.charts .plot[data-name="kl/ref"]').count() == 1
    assert page.evaluate("document.activeElement.dataset.name") == "reward/mean"
    # an alarm rings, and the stage is finished: its folder moves
    append(work, [{**row, "alarm/entropy": 1.0} for row in rl_rows(9, 10)])
    wait_for_points(page, "reward/mean", 10)
    assert "entropy collapse, steps 9 to 10" in page.locator(".alarms").inner_text()
    work.rename(tmp_path / "run" / "zero")
    page.wait_for_selector(".live-curves .state.done")
    assert points_of(page, "reward/mean") == [10]


def test_values_are_read_off_with_pointer_and_keys(
    tmp_path: Path, serve: Callable[..., str], open_page: Callable[..., Any]
) -> None:
    folder = make_stage(tmp_path / "run", "zero", rl_rows(1, 30))
    (folder / "rollouts").mkdir()
    page = open_page(serve(tmp_path), "/runs/run/stages/zero?chart=reward/mean&smooth=none")
    plot = page.locator(".large .plot")
    readout = plot.locator(".readout")
    plot.hover()
    assert readout.is_visible()
    assert readout.locator("b").inner_text().startswith("step 1")
    page.mouse.move(5, 5)
    readout.wait_for(state="hidden")
    plot.focus()
    page.keyboard.press("End")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    assert plot.get_attribute("aria-valuetext") == "step 27: 2.7"
    assert readout.inner_text().split("\n")[0] == "step 27"
    page.keyboard.press("Home")
    assert plot.get_attribute("aria-valuetext") == "step 1: 0.1"
    page.keyboard.press("PageUp")
    assert plot.get_attribute("aria-valuetext") == "step 4: 0.4"
    # a part of it is dragged over: from the middle, step 15.5 of 1 to 30, to the right end
    box = plot.locator("svg").bounding_box()
    middle = box["x"] + (64 + (1040 - 12 - 64) / 2) / 1040 * box["width"]
    page.mouse.move(middle, box["y"] + 80)
    page.mouse.down()
    page.mouse.move(middle + 60, box["y"] + 90)
    page.mouse.move(box["x"] + box["width"] - 1, box["y"] + 90)
    page.mouse.up()
    page.wait_for_url("**/zero?*from=16&to=30*")
    wait_for_points(page, "reward/mean", 15)
    plot.dblclick()
    page.wait_for_function("() => !location.search.includes('from')")
    wait_for_points(page, "reward/mean", 30)
    plot.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs/run/rollouts?stage=zero&step_from=29&step_to=29")


def test_settings_are_in_the_address(
    tmp_path: Path, serve: Callable[..., str], open_page: Callable[..., Any], no_serious_faults: Callable
) -> None:
    for name in ("a", "b"):
        make_stage(tmp_path / name, "zero", rl_rows(1, 30, offset=0.5 * (name == "b")))
        (tmp_path / name / "run.json").write_text("{}")
    address = serve(tmp_path)
    page = open_page(address, "/runs/a/stages/zero")
    page.click("summary:text('Lay over it')")
    page.check("input[value='b:zero']")
    page.wait_for_url("**/zero?with=b%3Azero")
    page.wait_for_function("() => document.querySelectorAll('.legend').length > 2")
    assert points_of(page, "reward/mean") == [30, 30]
    page.select_option("select[name=x]", "time")
    page.wait_for_url("**/zero?*x=time*")
    page.fill("input[name=from]", "0:20")
    page.keyboard.press("Tab")
    page.wait_for_url("**/zero?*from=*")
    wait_for_points(page, "reward/mean", 21)  # steps 10 to 30, of two seconds each
    page.select_option("select[name=smooth]", "ema")
    page.wait_for_url("**/zero?*smooth=ema*")
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("l")
    page.wait_for_url("**/zero?*log=1*")
    page.wait_for_function(
        "() => JSON.parse(document.querySelector('.plot[data-name=\"reward/mean\"]').dataset.chart).log"
    )
    no_serious_faults(page)
    shown = page.locator(".charts .plot svg").first.inner_html()
    # the address alone shows the same, and one step back is the view before
    other = open_page(address, page.url.removeprefix(address))
    assert other.locator(".charts .plot svg").first.inner_html() == shown
    assert other.locator("input[name=with]:checked").get_attribute("value") == "b:zero"
    page.go_back()
    page.wait_for_function("() => !location.search.includes('log=1')")
    page.wait_for_function(
        "() => !JSON.parse(document.querySelector('.plot[data-name=\"reward/mean\"]').dataset.chart).log"
    )


def test_metrics_are_searched_and_charts_saved(
    tmp_path: Path, serve: Callable[..., str], open_page: Callable[..., Any], no_serious_faults: Callable
) -> None:
    make_stage(tmp_path / "run", "zero", rl_rows(1, 30))
    page = open_page(serve(tmp_path), "/runs/run/stages/zero", viewport={"width": 400, "height": 800})
    page.keyboard.press("/")
    page.keyboard.type("LogRatio")
    assert page.locator("details.group:visible").count() == 1
    page.click('.lazy[data-metric="sampler/logratio_max"] figcaption a')
    page.wait_for_url("**/zero?chart=sampler*logratio_max")
    no_serious_faults(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    saved = {}
    for key, ending in (("v", "svg"), ("c", "csv"), ("p", "png")):
        with page.expect_download() as started:
            page.keyboard.press(key)
        assert started.value.suggested_filename == f"run-zero-sampler-logratio-max.{ending}"
        saved[ending] = Path(started.value.path()).read_bytes()
    assert saved["svg"].startswith(b"<svg ")
    assert saved["csv"].splitlines()[-1] == b"run,zero,30,60,3000,1e-05"
    assert saved["png"].startswith(b"\x89PNG")
    width = int.from_bytes(saved["png"][16:20], "big")
    assert width == 2 * 1040
    page.click("summary:text('The numbers as a table')")
    assert page.locator(".large tbody tr").count() == 30
    page.keyboard.press("s")
    page.wait_for_url("**/stages/zero")


def test_all_stages_of_a_real_run(
    route: Path, serve: Callable[..., str], open_page: Callable[..., Any], no_serious_faults: Callable
) -> None:
    page = open_page(serve(route), "/runs/out/stages")
    assert page.locator("section h2").count() == 13
    no_serious_faults(page)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/stages/zero")
    no_serious_faults(page)
    page.click("text=Configuration")
    no_serious_faults(page)
    page.emulate_media(color_scheme="dark")
    no_serious_faults(page)
    page.keyboard.press("u")
    page.wait_for_url("**/runs/out/stages")
