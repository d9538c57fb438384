"""The browser of rollouts as a user has it: real Chromium in front of a real server."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ui.rollouts.made_log import commit_step, make_row, small_run

pytestmark = pytest.mark.slow

Open = Callable[..., Any]
Check = Callable[[Any], None]


def ready(page: Any) -> None:
    """Waits until all of the log is indexed: the page then follows by itself."""
    page.get_by_text("The index is being built").wait_for(state="detached")


def test_from_the_list_to_a_token(
    route: Path, serve: Callable[..., str], open_page: Open, no_serious_faults: Check
) -> None:
    address = serve(route)
    page = open_page(address, "/runs/out/rollouts")
    ready(page)
    everything = page.locator("#found b").inner_text()
    no_serious_faults(page)
    # typing filters, and the address follows
    page.keyboard.press("/")
    page.keyboard.type("zzz no such text")
    page.wait_for_url("**/rollouts?text=zzz+no+such+text")
    assert page.locator("#found b").inner_text() == "0"
    page.locator("#text").fill("")
    page.wait_for_url("**/rollouts?")
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    page.wait_for_url("**/rollouts?truncated=yes")
    page.keyboard.press("t")
    page.wait_for_url("**/rollouts?")
    assert page.locator("#found b").inner_text() == everything
    page.get_by_text("More filters").click()
    page.locator("select[name=sort]").select_option("tokens")
    page.wait_for_url("**/rollouts?sort=tokens")
    tokens = [int(text.replace(",", "")) for text in page.locator("td[data-label=tokens]").all_inner_texts()]
    assert tokens == sorted(tokens, reverse=True)
    no_serious_faults(page)
    # a link reproduces the view
    first = page.locator("a.open").first.get_attribute("href")
    page.reload()
    assert page.locator("select[name=sort]").input_value() == "tokens"
    assert page.locator("a.open").first.get_attribute("href") == first
    # walking by keys
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/rollouts/\w+/\d+/\d+/\d+\?sort=tokens"))
    assert page.get_by_text(f"2 of {everything}").count() == 1
    here = page.url
    page.keyboard.press("n")
    page.wait_for_url(lambda url: url != here)
    page.keyboard.press("p")
    page.wait_for_url(here)
    page.keyboard.press("f")
    page.keyboard.press("t")
    page.wait_for_selector(".pieces i")
    assert page.locator(".pieces").get_attribute("data-shown") == "logprob"
    page.keyboard.press("3")
    assert page.locator(".pieces").get_attribute("data-shown") == "advantage"
    assert page.locator("[data-shade=advantage]").get_attribute("aria-pressed") == "true"
    no_serious_faults(page)
    # the pieces are the completion
    said = "".join(page.locator(".pieces i").all_inner_texts())
    assert len(said) > 3
    page.keyboard.press("g")
    page.wait_for_url(re.compile(r"/rollouts/\w+/\d+/\d+\?sort=tokens"))
    assert page.locator(".side article").count() > 1
    no_serious_faults(page)
    page.keyboard.press("s")
    page.wait_for_url(re.compile(r"/runs/out/problems\?id="))
    assert page.locator("h1").inner_text() == "One problem across steps and stages"
    no_serious_faults(page)
    page.keyboard.press("u")
    page.wait_for_url("**/rollouts")


def test_an_export_in_a_browser_is_the_log(
    tmp_path: Path, serve: Callable[..., str], open_page: Open
) -> None:
    run_dir = small_run(tmp_path / "made")
    page = open_page(serve(tmp_path), "/runs/made/rollouts?right=wrong&order=asc")
    ready(page)
    with page.expect_download() as download:
        page.get_by_text("Export as JSONL").click()
    rows = Path(download.value.path()).read_bytes().splitlines()
    log = (run_dir / "zero" / "rollouts" / "step-00001.jsonl").read_bytes().splitlines()
    assert rows[:3] == log[1:]
    assert len(rows) == 6


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_run_in_progress_on_a_small_screen(
    tmp_path: Path, serve: Callable[..., str], open_page: Open, no_serious_faults: Check, scheme: str
) -> None:
    run_dir = small_run(tmp_path / "made" / ".work").parent
    folder = run_dir / ".work" / "zero" / "rollouts"
    page = open_page(
        serve(tmp_path), "/runs/made/rollouts", viewport={"width": 400, "height": 800}, color_scheme=scheme
    )
    ready(page)
    assert page.locator("#found b").inner_text() == "8"
    page.evaluate("window.isTheSamePage = true")
    hostile = "<think>\n<img src=x onerror=alert(1)>\n</think>\n\n<script>document.title = 'hit'</script>"
    commit_step(folder, 3, [make_row(3, 0, 0, hostile + "x" * 5000)])
    page.wait_for_selector("#found b:text-is('9')")
    assert page.evaluate("window.isTheSamePage") is True
    no_serious_faults(page)
    page.locator("a.open").first.click()
    page.wait_for_url("**/rollouts/zero/3/0/0")
    assert "<script>document.title" in page.locator(".completion").inner_text()
    assert page.locator(".completion img, .completion script").count() == 0
    # nothing is wider than the screen
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.keyboard.press("t")
    page.wait_for_selector(".pieces i")
    no_serious_faults(page)
    page.keyboard.press("g")
    page.wait_for_url("**/rollouts/zero/3/0")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    no_serious_faults(page)
