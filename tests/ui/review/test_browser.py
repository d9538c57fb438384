"""The queue in a real browser, by keys alone."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1kit.text.template import format_chat
from tests.ui.review.conftest import ids, log_rows, make_run

pytestmark = pytest.mark.slow

Serve = Callable[..., str]
Open = Callable[..., Any]
QUEUE = "/runs/out/review/cold_start"


def on_item(page: Any, item: str) -> None:
    """Waits until the page shows an item, and its keys work."""
    page.wait_for_selector(f'#desk[data-ready][data-item="{item}"]')


def as_reviewer(page: Any, name: str) -> None:
    page.fill("#reviewer-name", name)
    page.keyboard.press("Enter")
    page.wait_for_selector("#desk[data-ready][data-item]")


def test_the_queue_by_keys(
    serve: Serve, open_page: Open, run_dir: Path, no_serious_faults: Callable[[Any], None]
) -> None:
    page = open_page(serve(run_dir.parent), QUEUE)
    no_serious_faults(page)
    as_reviewer(page, "Ann")
    items = ids(run_dir)
    on_item(page, items[0])
    no_serious_faults(page)
    assert page.locator("#right-text ins").count() > 0
    assert page.locator("#left-text del").count() > 0
    page.keyboard.down("a")
    on_item(page, items[1])
    page.keyboard.down("a")  # held down: it decides one item
    page.keyboard.up("a")
    # a wrong edit is refused while one types, and when it is saved
    page.keyboard.press("e")
    text = page.locator("#text")
    text.fill(format_chat("I count up by five.", "The answer is 7."))
    page.wait_for_selector("#checks dd.wrong:has-text('7: wrong')")
    no_serious_faults(page)
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#refusal:has-text('the summary\\'s answer is not correct')")
    text.fill(format_chat("I count up by five from one.", "The answer is 6."))
    page.wait_for_selector("#checks dd.right:has-text('6: right')")
    page.keyboard.press("Control+Enter")
    on_item(page, items[2])
    page.keyboard.press("e")
    text.fill("half a thought")
    page.keyboard.press("Escape")
    page.keyboard.press("a")  # by habit
    page.wait_for_selector("#refusal:has-text('You have edited this text')")
    page.keyboard.press("x")
    page.wait_for_selector("#reject-dialog[open]")
    no_serious_faults(page)
    page.keyboard.press("a")  # nothing behind the dialog
    page.keyboard.press("5")
    on_item(page, items[3])
    page.keyboard.press("x")
    page.fill("#reject-reason", "a reason of my own: a1")
    page.keyboard.press("Enter")
    on_item(page, items[4])
    page.keyboard.press("s")
    on_item(page, items[5])
    page.keyboard.press("z")  # the skip
    on_item(page, items[4])
    page.keyboard.press("k")
    on_item(page, items[3])
    page.keyboard.press("j")
    on_item(page, items[4])
    decided = [(row["action"], row.get("item")) for row in log_rows(run_dir)[1:]]
    assert decided == [
        ("accept", items[0]),
        ("edit", items[1]),
        ("reject", items[2]),
        ("reject", items[3]),
        ("skip", items[4]),
        ("undo", items[4]),
    ]
    assert [row["reason"] for row in log_rows(run_dir)[3:5]] == ["hard to read", "a reason of my own: a1"]
    for path in ("/runs/out/review", f"{QUEUE}/items"):
        page.goto(page.url.split("/runs")[0] + path)
        no_serious_faults(page)


def test_a_filter_of_style_gives_way_to_a_reason(serve: Serve, open_page: Open, run_dir: Path) -> None:
    page = open_page(serve(run_dir.parent), QUEUE)
    as_reviewer(page, "Ann")
    page.keyboard.press("e")
    page.locator("#text").fill(format_chat("我把两个数字加起来，一共是五。", "The answer is 5."))
    page.wait_for_selector("#override:not([hidden])")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#refusal:has-text('A filter objects')")
    page.fill("#override-reason", "a Chinese problem")
    page.keyboard.press("Control+Enter")
    on_item(page, ids(run_dir)[1])
    assert log_rows(run_dir)[-1]["override"] == "a Chinese problem"


def test_a_draft_survives_a_reload_and_the_server(serve: Serve, open_page: Open, run_dir: Path) -> None:
    page = open_page(serve(run_dir.parent), QUEUE)
    as_reviewer(page, "Ann")
    page.keyboard.press("e")
    page.locator("#text").fill("half a thought")
    page.reload()  # before the server has it
    page.wait_for_selector("#draft-note:not([hidden])")
    assert page.input_value("#text") == "half a thought"
    page.locator("#text").fill("half a thought, and more")
    page.wait_for_selector("#draft-saved:has-text('draft saved')")
    # another browser of the same reviewer: the server's copy
    other = open_page(serve(run_dir.parent), QUEUE)
    as_reviewer(other, "Ann")
    assert other.input_value("#text") == "half a thought, and more"
    other.click("#reset-text")
    assert "The answer is 5." in other.input_value("#text")


def test_a_decision_is_sent_again_until_it_is_saved(serve: Serve, open_page: Open, run_dir: Path) -> None:
    page = open_page(serve(run_dir.parent), QUEUE)
    as_reviewer(page, "Ann")
    first, second, *_ = ids(run_dir)
    page.route("**/decide", lambda route: route.abort())
    page.keyboard.press("a")
    page.wait_for_selector("#away:has-text('The server is away. 1 decision is kept in this browser')")
    assert not (run_dir / ".work" / "cold_start" / "review_log.jsonl").exists()
    page.reload()  # the browser forgets nothing either
    page.wait_for_selector("#away:has-text('1 decision is kept')")
    page.unroute("**/decide")
    on_item(page, second)
    [_, decision] = log_rows(run_dir)
    assert (decision["action"], decision["item"]) == ("accept", first)
    # an answer that is lost: the decision is saved, and sent again
    answered = []

    def lose_one(route: Any) -> None:
        answer = route.fetch()
        answered.append(answer.status)
        route.fulfill(response=answer) if len(answered) > 1 else route.abort()

    page.route("**/decide", lose_one)
    page.keyboard.press("a")
    on_item(page, ids(run_dir)[2])
    assert answered == [200, 200]
    assert [row["item"] for row in log_rows(run_dir)[1:]] == [first, second]


def answer_with(status: int, error: str) -> Callable[[Any], None]:
    body = json.dumps({"error": error})
    return lambda route: route.fulfill(status=status, body=body, content_type="application/json")


def test_a_decision_that_is_never_taken_is_set_aside_and_blocks_no_other(
    serve: Serve, open_page: Open, run_dir: Path, no_serious_faults: Callable[[Any], None]
) -> None:
    page = open_page(serve(run_dir.parent), QUEUE)
    as_reviewer(page, "Ann")
    first, second, third, *_ = ids(run_dir)
    page.route("**/decide", answer_with(404, "There is nothing to review in 'cold_start'."))
    page.keyboard.press("x")
    page.keyboard.press("5")
    aside = page.locator("#aside")
    aside.get_by_text("There is nothing to review in 'cold_start'.").wait_for()
    assert f"Not saved: reject {first} (hard to read)." in aside.inner_text()
    no_serious_faults(page)
    page.reload()  # it is still there, and the way is free
    page.unroute("**/decide")
    aside.get_by_text("There is nothing to review").wait_for()
    page.goto(f"{page.url.split('?')[0]}?item={second}")
    on_item(page, second)
    page.keyboard.press("a")
    on_item(page, first)  # it is open, and comes again
    assert [row["item"] for row in log_rows(run_dir)[1:]] == [second]
    aside.get_by_role("button", name="Try again").click()
    on_item(page, third)
    assert [(row["action"], row["item"]) for row in log_rows(run_dir)[1:]] == [
        ("accept", second),
        ("reject", first),
    ]
    assert aside.is_hidden()


def test_a_refusal_of_an_item_that_is_not_shown_is_kept_and_can_be_dropped(
    serve: Serve, open_page: Open, run_dir: Path
) -> None:
    page = open_page(serve(run_dir.parent), QUEUE)
    as_reviewer(page, "Ann")
    first, second, *_ = ids(run_dir)
    page.route("**/decide", answer_with(503, "`r1 run` is at work on this run."))
    page.keyboard.press("e")
    page.locator("#text").fill(format_chat("I count five up from nought.", "The answer is 5."))
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#away:has-text('at work on this run. 1 decision is kept in this browser')")
    page.unroute("**/decide")
    page.route("**/decide", answer_with(409, "A filter objects."))
    page.goto(f"{page.url.split('?')[0]}?item={second}")
    aside = page.locator("#aside")
    aside.get_by_text(f"Not saved: edit {first}. A filter objects.").wait_for()
    aside.locator("summary").click()
    assert "I count five up from nought." in aside.locator("pre").inner_text()
    aside.get_by_role("button", name="Drop it").click()
    assert aside.is_hidden()
    page.reload()
    on_item(page, second)
    assert aside.is_hidden()


def test_a_fault_of_the_server_is_tried_again_and_then_set_aside(
    serve: Serve, open_page: Open, run_dir: Path
) -> None:
    page = open_page(serve(run_dir.parent), QUEUE)
    as_reviewer(page, "Ann")
    asked = []

    def fault(route: Any) -> None:
        asked.append(route.request.url)
        answer_with(500, "A fault of r1kit.")(route)

    page.route("**/decide", fault)
    page.keyboard.press("a")
    page.wait_for_selector("#away:has-text('A fault of r1kit. 1 decision is kept in this browser')")
    page.evaluate("retrySeconds = 0.01")
    page.locator("#aside").get_by_text("A fault of r1kit.").wait_for()
    assert len(asked) == 5


def test_a_decision_is_sent_though_the_browser_can_keep_nothing(
    serve: Serve, open_page: Open, run_dir: Path
) -> None:
    page = open_page(serve(run_dir.parent), QUEUE)
    as_reviewer(page, "Ann")
    first, second, *_ = ids(run_dir)
    page.evaluate("void (Storage.prototype.setItem = () => { throw new Error('full'); })")
    page.keyboard.press("a")
    on_item(page, second)
    assert [row["item"] for row in log_rows(run_dir)[1:]] == [first]


def test_pairs_and_labels_by_keys_on_a_small_dark_screen(
    serve: Serve, open_page: Open, run_dir: Path, no_serious_faults: Callable[[Any], None]
) -> None:
    small = {"viewport": {"width": 400, "height": 800}, "color_scheme": "dark"}
    page = open_page(serve(run_dir.parent), "/runs/out/review/pairs", **small)
    page.fill("#reviewer-name", "Ann")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Begin a review")
    no_serious_faults(page)
    page.fill("#num-items", "2")
    page.click("button:has-text('Begin')")
    page.wait_for_selector("#desk[data-ready][data-item]")
    no_serious_faults(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    left = page.inner_text('section[aria-label="Left"] pre')
    page.keyboard.press("1")
    page.wait_for_selector("#desk[data-ready][data-item]:has-text('1 of 2 decided')")
    page.keyboard.press("3")
    page.wait_for_selector("text=All 2 items are decided")
    rows = [json.loads(line) for line in (run_dir / "reviews" / "pairs.jsonl").read_text().splitlines()]
    assert [row["value"] for row in rows[1:]] == [2 if left.startswith("Good") else -2, 0]
    address = page.url.split("/runs")[0]
    page.goto(f"{address}/runs/out/review/labels")
    page.click("button.main:has-text('Begin')")
    page.wait_for_selector("#desk[data-ready][data-item]")
    no_serious_faults(page)
    page.keyboard.press("n")
    page.wait_for_selector("#desk[data-ready][data-item]:has-text('1 of 2 decided')")
    page.keyboard.press("y")
    page.wait_for_selector("text=All 2 items are decided")
    no_serious_faults(page)


def test_a_disagreement_is_settled_from_one_of_the_texts(
    serve: Serve, open_page: Open, run_dir: Path, no_serious_faults: Callable[[Any], None]
) -> None:
    address = serve(run_dir.parent)
    first = ids(run_dir)[0]
    text = format_chat("I count five up from nought.", "The answer is 5.")
    for name, action in (
        ("Ann", {"action": "edit", "text": text}),
        ("Ben", {"action": "reject", "reason": "no"}),
    ):
        page = open_page(address)
        body = {"id": f"{name}-decides", "by": name, "item": first, **action}
        answer = page.request.post(f"{address}{QUEUE}/decide", data=body)
        assert answer.status == 200
    page = open_page(address, f"{QUEUE}?item={first}")
    page.fill("#reviewer-name", "Cat")
    page.keyboard.press("Enter")
    page.wait_for_selector("#desk[data-ready][data-item]")
    page.goto(f"{address}{QUEUE}/items?state=disputed")
    no_serious_faults(page)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Reviewers disagree")
    page.click("summary:has-text('The edited text')")
    no_serious_faults(page)
    page.click("button:has-text('Edit from this text')")
    assert page.input_value("#text") == text
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(f'#desk:not([data-item="{first}"])')
    last = log_rows(run_dir)[-1]
    assert (last["by"], last["settles"], last["text"]) == ("Cat", True, text)


def test_hostile_markup_runs_nothing(serve: Serve, open_page: Open, tmp_path: Path) -> None:
    run = make_run(tmp_path / "hostile", num_items=1)
    path = run / ".work" / "cold_start" / "review.jsonl"
    row = json.loads(path.read_text())
    bad = "</textarea><script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\">"
    row["response"], row["review"]["raw"] = bad, bad + " raw"
    row["messages"][0]["content"] = row["source"] = bad
    path.write_text(json.dumps(row) + "\n")
    page = open_page(serve(run.parent), QUEUE)
    as_reviewer(page, "Ann")
    page.keyboard.press("e")
    page.locator("#text").press_sequentially("x")
    page.wait_for_selector("#checks dd.wrong")
    assert re.fullmatch("Review of cold_start – r1kit", page.title())
    assert page.input_value("#text") == "x" + bad
    assert page.locator("main img, main script").count() == 0
