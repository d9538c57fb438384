"""The queue: who gets which item, what is saved, and what is refused."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from r1kit.data.review_items import Ids
from r1kit.data.reviews import take_review
from r1kit.pipeline.lock import run_lock
from r1kit.text.template import format_chat
from r1kit.ui.folders import find_runs
from r1kit.ui.review import desks
from tests.reviewing import ids_of
from tests.ui.review.conftest import Reviewer, ids, log_rows, make_run, response

Make = Callable[..., Reviewer]


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_name_is_asked_for_once_and_looking_writes_nothing(reviewer: Make, run_dir: Path) -> None:
    before = files_in(run_dir)
    ann = reviewer("Ann")
    assert "Who are you?" in ann.client.get(ann.base).text
    for bad in ("", "x" * 41, "a\nb", "\u202eAnn"):
        answer = ann.client.post(f"{ann.base}/reviewer", data={"name": bad})
        assert answer.status_code in (400, 422)
        assert "Traceback" not in answer.text
    answer = ann.client.post(f"{ann.base}/reviewer", data={"name": " Ann 安 "}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, ann.base)
    assert ann.client.cookies["r1_reviewer"] == "Ann%20%E5%AE%89"
    assert "as <b>Ann 安</b>" in ann.client.get(ann.base).text
    assert "0 of 6" in ann.client.get("/runs/out/review").text
    assert files_in(run_dir) == before


def test_a_decision_is_in_the_log_once_however_often_it_is_sent(reviewer: Make, run_dir: Path) -> None:
    ann = reviewer("Ann")
    first = ann.item()
    assert first == ids(run_dir)[0]
    assert ann.send("accept", first, id="the-same-id", seconds=2.5).json()["new"] is True
    assert ann.send("accept", first, id="the-same-id", seconds=2.5).json()["new"] is False
    begin, accept = log_rows(run_dir)
    assert (begin["action"], list(begin["items"])) == ("begin", ids(run_dir))
    assert {name: accept[name] for name in ("id", "by", "action", "item", "seconds")} == {
        "id": "the-same-id", "by": "Ann", "action": "accept", "item": first, "seconds": 2.5,
    }  # fmt: skip
    assert ann.item() == ids(run_dir)[1]


def test_two_reviewers_never_have_the_same_item(reviewer: Make, run_dir: Path) -> None:
    ann, ben = reviewer("Ann"), reviewer("Ben")
    for _ in range(3):
        one, other = ann.item(), ben.item()
        assert one != other
        assert ann.item() == one  # a page that is loaded again
        ann.decide("accept", one)
        ben.decide("reject", other, reason="hard to read")
    assert (ann.item(), ben.item()) == (None, None)
    assert "All 6 items are decided" in ann.page()
    assert sorted(row["item"] for row in log_rows(run_dir)[1:]) == sorted(ids(run_dir))


def test_an_item_is_still_on_the_desk_after_the_server_was_killed(
    client_of: Callable[..., TestClient], run_dir: Path
) -> None:
    ann = Reviewer(client_of(run_dir.parent), "Ann")
    first = ann.item()
    ben = Reviewer(client_of(run_dir.parent), "Ben")  # another server, with nothing in its memory
    assert ben.item() == ids(run_dir)[1]
    assert "Ann has this item" in ben.page(f"?item={first}")


def test_an_item_that_was_left_lying_is_given_to_another(
    reviewer: Make, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "LEASE_SECONDS", -1.0)
    assert reviewer("Ann").item() == reviewer("Ben").item() == ids(run_dir)[0]


def test_skipped_items_come_back_when_nothing_else_is_left(reviewer: Make, run_dir: Path) -> None:
    ann = reviewer("Ann")
    skipped = ann.item()
    ann.decide("skip", skipped)
    for _ in range(5):
        item = ann.item()
        assert item != skipped
        ann.decide("accept", item)
    assert ann.item() == skipped
    assert "<b>1</b> skipped" in ann.page()


def test_undo_takes_back_the_reviewers_own_last_decision(reviewer: Make, run_dir: Path) -> None:
    ann, ben = reviewer("Ann"), reviewer("Ben")
    first, second = ids(run_dir)[:2]
    ann.decide("accept", first)
    ben.decide("accept", second)
    assert ann.send("undo", id="undo-number-1").json()["item"] == first
    assert ann.send("undo", id="undo-number-1").json()["item"] == first  # sent again: not one more
    assert ann.item() == first
    answer = ann.send("undo")
    assert (answer.status_code, answer.json()["error"]) == (409, "There is nothing of yours to undo.")
    assert len(log_rows(run_dir)) == 4


def test_edits_pass_the_parser_and_the_filters(reviewer: Make, run_dir: Path) -> None:
    ann = reviewer("Ann")
    item = ann.item()  # 0 + 5
    for text, why in (
        ("The answer is 5.", "the response must be <think>"),
        (format_chat("I add them up.", "The answer is 6."), "the summary's answer is not correct"),
    ):
        answer = ann.send("edit", item, text=text, override="because I say so")
        assert answer.status_code == 409
        assert why in answer.json()["error"]
        assert not answer.json()["overridable"]
    chinese = format_chat("我把两个数字加起来，一共是五。", "The answer is 5.")
    answer = ann.send("edit", item, text=chinese)
    assert (answer.status_code, answer.json()["overridable"]) == (409, True)
    assert "not in the question's language" in answer.json()["error"]
    ann.decide("edit", item, text=chinese, override="a quotation")
    assert log_rows(run_dir)[-1] | {"at": 0} == {
        "id": "Ann-decision-4", "at": 0, "by": "Ann", "action": "edit", "item": item, "text": chinese,
        "override": "a quotation",
    }  # fmt: skip
    ann.decide("edit", item, text=response(0))  # the text as it was
    assert log_rows(run_dir)[-1]["action"] == "accept"


def test_what_is_typed_is_checked(reviewer: Make) -> None:
    ann = reviewer("Ann")
    item = ann.item()

    def check(text: str) -> dict:
        answer = ann.client.post(f"{ann.base}/check", json={"by": "Ann", "item": item, "text": text}).json()
        found = {line["name"]: (line["found"], line["right"]) for line in answer["lines"]}
        return found | {"faults": [*answer["forbidding"], *answer["of_style"]], "right": answer["right"]}

    found = check(response(0))
    assert found["format"] == ("reasoning and summary", True)
    assert found["answer"] == ("5: right", True)
    assert found["language"] == ("100% of 8 words in en", True)  # `I` is no word of the measure
    assert found["length"] == ("about 10 tokens of 4 to 40", True)
    assert found["faults"] == []
    assert ["only", "The answer is "] in found["right"]  # differs from the raw completion
    found = check(format_chat("We add and get it. " * 30, "It is 7."))
    assert found["answer"] == ("7: wrong", False)
    # 10 tokens for 39 characters, and 30 * 19 - 1 characters now
    assert found["length"][0] == f"about {round(10 * 569 / 39)} tokens of 4 to 40"
    assert found["faults"] == [
        "the summary's answer is not correct",
        "the reasoning repeats itself",
        "the reasoning is too short or too long",
    ]
    assert check("no tags")["format"] == ("not <think>reasoning</think> and then a summary", False)


def test_drafts_are_on_disk_and_end_with_the_decision(
    client_of: Callable[..., TestClient], run_dir: Path
) -> None:
    ann = Reviewer(client_of(run_dir.parent), "Ann")
    item = ann.item()
    for text in ("a", "ab", "a <b>draft</b> 中"):
        body = {"by": "Ann", "item": item, "text": text}
        assert ann.client.post(f"{ann.base}/draft", json=body).json() == {"saved": True}
    later = Reviewer(client_of(run_dir.parent), "Ann")  # another server
    assert 'data-draft="a &lt;b&gt;draft&lt;/b&gt; 中"' in later.page()
    assert 'data-draft=""' in Reviewer(later.client, "Ben").page(f"?item={item}")
    assert not (run_dir / ".work" / "cold_start" / "review_log.jsonl").exists()  # a draft is no decision
    later.decide("accept", item)
    assert 'data-draft=""' in later.page(f"?item={item}")


def test_a_second_opinion_is_given_without_knowing_the_first(reviewer: Make, run_dir: Path) -> None:
    ann, ben = reviewer("Ann"), reviewer("Ben")
    assert ann.form("share", share="1").status_code == 303
    first = ids(run_dir)[0]
    ann.decide("reject", first, reason="too long, or repeats itself")
    assert ann.item() != first
    page = ben.page()
    assert f'data-item="{first}"' in page
    assert 'class="state waiting"' in page
    assert "Ann</b>" not in page
    listed = ann.client.get(f"{ann.base}/items?state=waiting").text
    assert "hidden until the second" in listed
    assert "repeats itself" not in listed
    ben.decide("accept", first)
    page = ann.page(f"?item={first}")
    assert "Reviewers disagree" in page
    assert "too long, or repeats itself" in page
    refused = ann.form("rest")
    assert refused.status_code == 409
    assert "Reviewers disagree on 1 items: settle them first" in refused.text
    ann.decide("accept", first)
    assert log_rows(run_dir)[-1]["settles"] is True
    assert ann.form("rest").status_code == 303
    assert "All 6 items are decided" in ann.page()
    assert len(log_rows(run_dir)[-1]["items"]) == 5


def test_pairs_are_shown_in_random_order_without_their_label(reviewer: Make, run_dir: Path) -> None:
    seen, item = set(), None
    for name in "ABCDEFGH":
        ann = reviewer(name, "pairs")
        if not (run_dir / "reviews").exists():
            assert "Begin a review" in ann.page()
            assert ann.form("begin", share="1").status_code == 303
        item = ann.item() if item is None else item
        page = ann.page(f"?item={item}")
        assert "0.875" not in page
        assert "chosen" not in page.split("<main")[1]
        left = page.split('aria-label="Left"')[1].split("</section>")[0]
        shows_good = "Good" in left
        seen.add(shows_good)
        ann.decide("prefer", item, value=-2)  # left is much better
        log = (run_dir / "reviews" / "pairs.jsonl").read_text().splitlines()
        assert json.loads(log[-1])["value"] == (2 if shows_good else -2)
        page = ann.page(f"?item={item}")
        assert "you decided: <b>left is much better" in page
        # only now
        assert f"the label so far: {'left' if shows_good else 'right'} is better, by 0.875" in page
        ann.send("undo")
    assert seen == {True, False}
    answer = ann.send("accept", item)
    assert (
        "'accept' is no decision on a pair; those are: prefer, reject, skip, undo" in answer.json()["error"]
    )


def test_finished_data_are_reviewed_beside_the_stages(reviewer: Make, run_dir: Path) -> None:
    ann = reviewer("Ann", "labels")
    before = files_in(run_dir / "labels")
    ann.form("begin", num_items="1")
    item = ann.item()
    assert "safe is" not in ann.page()
    ann.decide("label", item, value=0)
    assert "not safe" in ann.page(f"?item={item}")
    assert "All 1 items are decided" in ann.page()
    rows = [json.loads(line) for line in (run_dir / "labels" / "data.jsonl").read_text().splitlines()]
    [other] = {Ids().of(row) for row in rows} - {item}
    assert "There is no item" in ann.send("label", other, value=1).json()["error"]  # not drawn
    assert files_in(run_dir / "labels") == before
    [run] = find_runs([run_dir.parent])
    assert [view.name for view in run.stages()] == ["cold_start", "labels", "pairs"]
    assert ann.client.get("/runs/out/review/nothing").status_code == 404


def test_a_file_that_was_changed_by_hand_is_shown_and_taken_over(reviewer: Make, run_dir: Path) -> None:
    ann = reviewer("Ann")
    first, second, *_ = ids(run_dir)
    ann.decide("accept", first)
    path = run_dir / ".work" / "cold_start" / "review.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    ann.decide("accept", second)
    rows[1]["accepted"] = False
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert f"was changed by hand after this review began, in 1 item ({second})" in ann.page()
    assert ann.form("take-over").status_code == 303
    assert "was changed by hand" not in ann.page()
    assert "<b>1</b> rejected" in ann.page()


def test_a_running_stage_keeps_decisions_waiting(reviewer: Make, run_dir: Path) -> None:
    ann = reviewer("Ann")
    with run_lock(run_dir):
        answer = ann.send("accept", ids(run_dir)[0], id="waits-for-the-run")
        assert (answer.status_code, answer.json()["error"]) == (
            503, "`r1 run` is at work on this run; the decision waits here.",
        )  # fmt: skip
    assert ann.send("accept", ids(run_dir)[0], id="waits-for-the-run").status_code == 200


def test_a_review_that_was_taken_takes_nothing_more(reviewer: Make, run_dir: Path) -> None:
    ann = reviewer("Ann")
    ann.decide("accept", ids(run_dir)[0])
    with (run_dir / ".work" / "cold_start" / "review_log.jsonl").open("a") as file:
        file.write('{"id": "closed", "at": 1, "by": "r1 run", "action": "closed"}\n')
    answer = ann.send("accept", ids(run_dir)[1])
    assert (answer.status_code, "has taken this review already" in answer.json()["error"]) == (409, True)
    assert "has taken this review" in ann.page()
    assert ann.form("reopen").status_code == 303
    ann.decide("accept", ids(run_dir)[1])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"id": "x" * 12, "by": "Ann", "action": "dance"}, 422),
        ({"id": "x" * 12, "by": "", "action": "accept", "item": "x"}, 409),
        ({"id": "x" * 12, "by": "Ann", "action": "accept", "item": "no such item"}, 409),
        ({"id": "x" * 12, "by": "Ann", "action": "edit", "item": "FIRST"}, 409),
        ({"id": "x" * 12, "by": "Ann", "action": "edit", "item": "FIRST", "text": "half \ud800"}, 422),
        ({"id": "x" * 12, "by": "Ann", "action": "prefer", "item": "FIRST", "value": 9}, 422),
    ],
)
def test_what_can_not_be_a_decision_is_refused_with_a_sentence(
    reviewer: Make, run_dir: Path, body: dict, status: int
) -> None:
    ann = reviewer("Ann")
    if body.get("item") == "FIRST":
        body = body | {"item": ids(run_dir)[0]}
    answer = ann.client.post(
        f"{ann.base}/decide",
        content=json.dumps(body),
        headers={"accept": "application/json", "content-type": "application/json"},
    )
    assert answer.status_code == status, answer.text
    assert answer.json()["error"].endswith((".", "it", "it."))


def test_hostile_texts_are_text(client_of: Callable[..., TestClient], tmp_path: Path) -> None:
    run = make_run(tmp_path / "hostile", num_items=1)
    path = run / ".work" / "cold_start" / "review.jsonl"
    row = json.loads(path.read_text())
    bad = "<script>alert(1)</script>\x1b[31m\u202e</pre><img src=x onerror=alert(2)>" + "long" * 50_000
    row["response"] = row["review"]["raw"] = row["messages"][0]["content"] = bad
    row["review"]["problem"]["ground_truth"] = row["source"] = bad
    path.write_text(json.dumps(row) + "\n")
    ann = Reviewer(client_of(run.parent), "Ann")
    page = ann.page()
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)" in page
    shown = page.split('id="editor"')[0]  # the editor has the text as it is
    assert "␛[31m⟨U+202E⟩" in shown
    assert "\x1b" not in re.sub(r"<textarea.*?</textarea>", "", shown, flags=re.DOTALL)
    ann.decide("reject", ids(run)[0], reason=bad[:100])
    assert "<script>alert" not in ann.client.get(f"{ann.base}/items").text


def test_a_file_of_an_older_version_is_reviewed_all_the_same(reviewer: Make, run_dir: Path) -> None:
    path = run_dir / ".work" / "cold_start" / "review.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({k: v for k, v in r.items() if k != "review"}) + "\n" for r in rows))
    ann = reviewer("Ann")
    page = ann.page()
    assert "this run did not record the problem" in page
    assert "100% of 8 words in en ✓" in page
    ann.decide("accept", ann.item())
    ann.form("rest")
    taken = take_review(path.parent, "cold_start", lambda rows: [None] * len(rows))
    assert len(taken.records) == 6


def test_the_runs_own_page_says_that_a_stage_waits(reviewer: Make) -> None:
    page = reviewer("Ann").client.get("/runs/out").text
    assert '<b>cold_start</b> waits for people: <a href="/runs/out/review/cold_start">' in page


def test_damaged_files_give_sentences(reviewer: Make, run_dir: Path) -> None:
    ann = reviewer("Ann")
    ann.decide("accept", ids(run_dir)[0])
    log = run_dir / ".work" / "cold_start" / "review_log.jsonl"
    log.write_bytes(log.read_bytes() + b"garbage\n")
    assert "review_log.jsonl:3 is damaged" in ann.page()
    path = run_dir / ".work" / "cold_start" / "review.jsonl"
    path.write_text(path.read_text() + "garbage\n")
    for address in ("/runs/out/review", ann.base, f"{ann.base}/items", f"{ann.base}/export/accepted.jsonl"):
        answer = ann.client.get(address)
        assert "review.jsonl:7 is damaged" in answer.text, address
        assert "Traceback" not in answer.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_gives_a_sentence(reviewer: Make, run_dir: Path) -> None:
    ann = reviewer("Ann")
    folder = run_dir / ".work" / "cold_start"
    folder.chmod(0o500)
    try:
        answer = ann.send("accept", ids(run_dir)[0])
        assert "Permission denied" in answer.text
    finally:
        folder.chmod(0o700)


def test_a_stage_that_has_gone_on_says_so(reviewer: Make, run_dir: Path) -> None:
    ann = reviewer("Ann")
    item = ann.item()
    (run_dir / ".work" / "cold_start").rename(run_dir.parent / "gone")
    answer = ann.send("accept", item)
    assert answer.status_code == 404
    assert "no stage with finished data, and none that waits for a review" in answer.text


def test_a_decision_for_a_review_that_was_taken_does_not_begin_another(reviewer: Make, run_dir: Path) -> None:
    ann = reviewer("Ann")
    item = ann.item()
    work = run_dir / ".work" / "cold_start"
    ann.decide("accept", item, required=True)
    rows = [json.loads(line) for line in (work / "review.jsonl").read_text().splitlines()]
    records = [{k: v for k, v in row.items() if k not in ("accepted", "review")} for row in rows]
    (work / "data.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    work.rename(run_dir / "cold_start")
    answer = ann.send("accept", ids_of(run_dir / "cold_start")[1], required=True)
    assert (answer.status_code, "no longer waits for this review" in answer.json()["error"]) == (409, True)
    assert not (run_dir / "reviews").exists()
    listed = ann.client.get("/runs/out/review").text
    assert "before training: 1 accepted, 0 edited, 0 rejected" in listed


def test_records_that_are_gone_after_a_stage_was_made_again_are_counted(
    reviewer: Make, run_dir: Path
) -> None:
    ann = reviewer("Ann", "pairs")
    ann.form("begin")
    first = ann.item()
    ann.decide("prefer", first, value=2)
    path = run_dir / "pairs" / "data.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    assert "1 record of this review is no longer in the data" in ann.page()
    assert "1 of 2 decided" in ann.page()


def test_the_pages_need_no_torch() -> None:
    code = "import r1kit.ui.app, sys; assert not {'torch', 'transformers'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
