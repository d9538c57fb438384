"""Reviews of what the stages themselves have made."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from r1kit.data.jsonl import read_jsonl
from r1kit.data.review_items import problem_of, record_of
from tests.ui.review.conftest import Reviewer

pytestmark = pytest.mark.slow

STAGES = ("cold_start", "pairs", "rejection", "labels")


def test_every_record_has_its_origin(route: Path) -> None:
    for stage in STAGES:
        records = [row for _, row in read_jsonl(route / stage / "data.jsonl")]
        origins = [row for _, row in read_jsonl(route / stage / "origins.jsonl")]
        assert len(records) == len(origins)
        assert all(record == record_of(record) for record in records)
        if stage != "pairs":  # those come from a file
            for record, origin in zip(records, origins, strict=True):
                problem = problem_of(record, origin)
                assert problem is not None
                assert record.get("problem_id", problem.id) == problem.id


def test_general_data_can_be_reviewed_alone(
    client_of: Callable[..., TestClient], copy_of_route: Path
) -> None:
    ann = Reviewer(client_of(copy_of_route), "Ann", "rejection")
    records = [row for _, row in read_jsonl(copy_of_route / "rejection" / "data.jsonl")]
    source = "rejection: demonstrations"
    wanted = sum(record["source"] == source for record in records)
    assert f'<option value="{source}">{source} ({wanted})</option>' in ann.page()
    assert "There is no source" in ann.form("begin", source="elsewhere").text
    ann.form("begin", source=source)
    assert f"0 of {wanted} decided" in ann.page()
    item = ann.item()
    ann.decide("edit", item, text="A very good day to you.")
    exported = client_of(copy_of_route).get(f"{ann.base}/export/accepted.jsonl").text
    assert json.loads(exported)["response"] == "A very good day to you."
    assert json.loads(exported)["source"] == source


@pytest.mark.parametrize("stage", STAGES)
def test_finished_data_of_every_kind_are_shown(client: TestClient, route: Path, stage: str) -> None:
    before = {path for path in route.rglob("*") if path.is_file()}
    ann = Reviewer(client, "Ann", stage)
    assert "Begin a review" in ann.page()
    items = re.findall(r"\?item=([0-9a-f~]+)", client.get(f"{ann.base}/items").text)
    assert len(items) == min(100, len(list(read_jsonl(route / stage / "data.jsonl"))))
    for item in dict.fromkeys((items[0], items[-1])):
        page = ann.page(f"?item={item}")
        assert f'data-item="{item}"' in page
        if stage == "cold_start":
            assert re.search(r'<dd class="right">\d+: right ✓', page)
            assert "Raw completion" in page
            assert 'class="wrong"' not in page
    for name in ("accepted.jsonl", "review.jsonl", "label-studio.json", "label-studio.xml", "argilla.json"):
        assert client.get(f"{ann.base}/export/{name}").status_code == 200
    assert {path for path in route.rglob("*") if path.is_file()} == before
