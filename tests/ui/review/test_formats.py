"""Downloads and imports: JSONL, Label Studio, Argilla."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.services import service_module
from tests.ui.review.conftest import Reviewer, ids, log_rows, response

Make = Callable[..., Reviewer]


def download(reviewer: Reviewer, name: str) -> str:
    answer = reviewer.client.get(f"{reviewer.base}/export/{name}")
    assert answer.status_code == 200, answer.text
    assert name in answer.headers["content-disposition"]
    return answer.text


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def decided(make: Make, run_dir: Path) -> Reviewer:
    """Ann has decided the first three items: accepted, edited, rejected."""
    ann = make("Ann")
    one, two, three = ids(run_dir)[:3]
    ann.decide("accept", one, seconds=4.0)
    ann.decide("edit", two, text=response(1, "I'd rather count up from one by five."))
    ann.decide("reject", three, reason="hard to read")
    return ann


def test_accepted_records_are_a_recipes_data(reviewer: Make, run_dir: Path) -> None:
    ann = decided(reviewer, run_dir)
    found = rows(download(ann, "accepted.jsonl"))
    assert [row["response"] for row in found] == [
        response(0),
        response(1, "I'd rather count up from one by five."),
    ]
    assert set(found[0]) == {"messages", "response", "style", "domain", "language", "source", "problem_id"}


def test_all_rows_go_out_and_come_in_again(reviewer: Make, run_dir: Path) -> None:
    ann = decided(reviewer, run_dir)
    found = rows(download(ann, "review.jsonl"))
    assert [row["accepted"] for row in found] == [True, True, False, None, None, None]
    assert found[2]["review"]["opinions"] == [{"by": "Ann", "says": "drop", "reason": "hard to read"}]
    # edited elsewhere: the first dropped, the fourth edited, the fifth accepted
    found[0]["accepted"] = False
    found[3] |= {"accepted": True, "response": response(3, "Three and five are eight, as all know.")}
    found[4]["accepted"] = True
    ben = reviewer("Ben")
    content = "".join(json.dumps(row) + "\n" for row in (found[0], found[3], found[4], found[5]))
    answer = ben.client.post(
        f"{ben.base}/import", data={"by": "Ben"}, files={"file": ("x.jsonl", content)}, follow_redirects=False
    )
    assert answer.status_code == 303, answer.text
    assert [(row["by"], row["action"]) for row in log_rows(run_dir)[4:]] == [
        ("Ben", "reject"),
        ("Ben", "edit"),
        ("Ben", "accept"),
    ]
    states = [row["review"]["state"] for row in rows(download(ben, "review.jsonl"))]
    assert states == ["disputed", "edited", "rejected", "edited", "accepted", "pending"]


def test_an_edit_against_a_filter_comes_in_again_with_its_reason(reviewer: Make, run_dir: Path) -> None:
    ann = reviewer("Ann")
    first = ids(run_dir)[0]
    mixed = response(0, "我把这两个数加起来。")
    ann.decide("edit", first, text=mixed, override="a translation is asked for")
    content = download(ann, "review.jsonl")
    assert rows(content)[0]["review"]["override"] == "a translation is asked for"
    ben = reviewer("Ben")
    answer = ben.client.post(
        f"{ben.base}/import",
        data={"by": "Ben"},
        files={"file": ("x.jsonl", content.splitlines()[0] + "\n")},
        follow_redirects=False,
    )
    assert answer.status_code == 303, answer.text
    last = log_rows(run_dir)[-1]
    assert (last["by"], last["text"], last["override"]) == ("Ben", mixed, "a translation is asked for")
    assert rows(download(ben, "review.jsonl"))[0]["review"]["state"] == "edited"


@pytest.mark.parametrize(
    ("config", "differences"),
    [
        ({"label": "tinyworld", "source": {}}, [3.5, 0.0, 2.0]),
        ({"label": "tinyworld"}, [1.0, 0.25, 0.5]),
        ({"label": {"base_url": "u", "model": "m"}}, [1.25, 2.0, 1.5]),
        ({"label": "tinyworld", "source": {}}, [None, None, None]),
    ],
)
def test_pairs_of_every_scale_come_in_as_they_went_out(
    reviewer: Make, run_dir: Path, config: dict[str, Any], differences: list[float | None]
) -> None:
    manifest = json.loads((run_dir / "pairs" / "manifest.json").read_text())
    manifest["key"]["config"] |= config
    (run_dir / "pairs" / "manifest.json").write_text(json.dumps(manifest))
    path = run_dir / "pairs" / "data.jsonl"
    found = rows(path.read_text())
    for row, difference in zip(found, differences, strict=True):
        row["difference"] = difference
        if difference is None:
            del row["difference"]
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    ann, ben = reviewer("Ann", "pairs"), reviewer("Ben", "pairs")
    ann.form("begin")
    ann.decide("prefer", ann.item(), value=1)
    ann.form("rest")
    content = download(ann, "review.jsonl")
    taken = rows(download(ann, "accepted.jsonl"))
    assert sum("difference" in row for row in taken) in (0, 3)
    answer = ben.client.post(
        f"{ben.base}/import",
        data={"by": "Ben"},
        files={"file": ("x.jsonl", content)},
        follow_redirects=False,
    )
    assert answer.status_code == 303, answer.text
    again = rows(download(ben, "accepted.jsonl"))
    assert [row["chosen"] for row in again] == [row["chosen"] for row in taken]
    if None not in differences:
        assert [row["difference"] for row in again] == pytest.approx(
            [row["difference"] for row in taken], abs=1e-5
        )
    too_much = json.dumps(rows(content)[0] | {"difference": 9})
    files = {"file": ("x.jsonl", too_much)}
    answer = ben.client.post(f"{ben.base}/import", data={"by": "Ben"}, files=files)
    assert (answer.status_code, "the highest here, not 9" in answer.text) == (400, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accepted": "yes"}, "line 1: accepted must be true, false or null, not &#39;yes&#39;"),
        ({"response": "no tags"}, "the response must be &lt;think&gt;"),
        ({"review": {"id": "unknown"}}, "line 1: no record of this review"),
        ({"response": 3}, "line 1: response must be text, not 3"),
    ],
)
def test_an_import_that_is_wrong_changes_nothing(
    reviewer: Make, run_dir: Path, change: dict[str, Any], message: str
) -> None:
    ann = reviewer("Ann")
    row = rows(download(ann, "review.jsonl"))[0] | {"accepted": True} | change
    files = {"file": ("x.jsonl", json.dumps(row) + "\n")}
    answer = ann.client.post(f"{ann.base}/import", data={"by": "Ann"}, files=files)
    assert answer.status_code == 400
    assert message in answer.text
    assert not (run_dir / ".work" / "cold_start" / "review_log.jsonl").exists()


def test_pairs_go_out_swapped_and_come_in_swapped(reviewer: Make, run_dir: Path) -> None:
    ann = reviewer("Ann", "pairs")
    ann.form("begin")
    found = rows(download(ann, "review.jsonl"))
    found[0] |= {"accepted": True, "chosen": "Bad 0.", "rejected": "Good 0.", "difference": 2}
    found[1] |= {"accepted": True}
    content = "".join(json.dumps(row) + "\n" for row in found[:2])
    ann.client.post(f"{ann.base}/import", data={"by": "Ann"}, files={"file": ("x.jsonl", content)})
    taken = rows(download(ann, "accepted.jsonl"))
    assert [(row["chosen"], row["difference"]) for row in taken] == [("Bad 0.", 2.0), ("Good 1.", 0.875)]


def test_label_studio_has_tasks_and_an_interface_that_fits(reviewer: Make, run_dir: Path) -> None:
    ann = decided(reviewer, run_dir)
    tasks = json.loads(download(ann, "label-studio.json"))
    interface = download(ann, "label-studio.xml")
    names = {tag.get("name"): tag for tag in ElementTree.fromstring(interface).iter() if tag.get("name")}
    assert len(tasks) == 6
    first, second, third = tasks[:3]
    assert first["data"] | {"raw": ""} == {
        "question": "What is 0 + 5?", "ground_truth": "5", "response": response(0), "raw": "",
        "id": ids(run_dir)[0], "source": "samples from zero", "problem_id": "sum-0",
    }  # fmt: skip
    [annotation] = second["annotations"]
    values = {region["from_name"]: region["value"] for region in annotation["result"]}
    assert values == {
        "decision": {"choices": ["keep"]},
        "response": {"text": [response(1, "I'd rather count up from one by five.")]},
    }
    assert first["annotations"][0]["lead_time"] == 4.0
    assert third["annotations"][0]["result"][-1]["value"] == {"text": ["hard to read"]}
    assert tasks[5]["annotations"] == []
    for task in tasks:
        for region in [r for a in (*task["annotations"], *task["predictions"]) for r in a["result"]]:
            assert names[region["from_name"]].get("toName") == region["to_name"]
    for tag in names.values():
        if (value := tag.get("value", "")).startswith("$"):
            assert value[1:] in first["data"]


@pytest.mark.parametrize("stage", ["cold_start", "pairs", "labels"])
def test_label_studios_own_check_accepts_the_tasks(reviewer: Make, run_dir: Path, stage: str) -> None:
    interface_of = service_module("label_studio_sdk.label_interface").LabelInterface
    ann = reviewer("Ann", stage)
    ann.form("begin")
    item = ann.item()
    decision = {"pairs": ("prefer", -2), "labels": ("label", 0), "cold_start": ("accept", None)}[stage]
    ann.decide(decision[0], item, value=decision[1])
    interface = interface_of(download(ann, "label-studio.xml"))
    interface.validate()
    for task in json.loads(download(ann, "label-studio.json")):
        assert interface.validate_task({"data": task["data"]})  # with annotations it raises TypeError (2.1.2)
        for annotation in task["annotations"]:
            assert interface.validate_annotation(annotation)
        for prediction in task["predictions"]:
            assert interface.validate_prediction(prediction)


def test_argilla_has_records(reviewer: Make, run_dir: Path) -> None:
    ann = decided(reviewer, run_dir)
    records = json.loads(download(ann, "argilla.json"))
    assert [record["id"] for record in records] == ids(run_dir)
    second = records[1]
    assert set(second["fields"]) == {"question", "ground_truth", "raw"}
    assert second["suggestions"] == {
        "response": {
            "value": response(1, "I'd rather count up from one by five."), "agent": "Ann", "type": "human",
        },
        "decision": {"value": "keep", "agent": "Ann", "type": "human"},
    }  # fmt: skip
    assert second["metadata"] == {"source": "samples from zero", "problem_id": "sum-1", "state": "edited"}
    assert records[5]["suggestions"] == {
        "response": {"value": response(5), "agent": "r1kit", "type": "model"}
    }


def test_argillas_own_reader_accepts_the_records(reviewer: Make, run_dir: Path, tmp_path: Path) -> None:
    io = service_module("argilla.records._io")
    path = tmp_path / "records.json"
    path.write_text(download(decided(reviewer, run_dir), "argilla.json"))
    records = io.JsonIO._records_from_json(path)
    assert [record.id for record in records] == ids(run_dir)
    assert [
        suggestion.value for suggestion in records[2].suggestions if suggestion.question_name == "decision"
    ] == ["drop"]


def test_an_unknown_download_names_those_that_there_are(reviewer: Make) -> None:
    answer = reviewer("Ann").client.get("/runs/out/review/cold_start/export/x.csv")
    assert answer.status_code == 404
    assert "accepted.jsonl, review.jsonl, label-studio.json, argilla.json, label-studio.xml" in answer.text
