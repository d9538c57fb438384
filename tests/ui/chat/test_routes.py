"""What the chat's addresses take and refuse, and that the pieces of several answers stay apart."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from r1kit.seeds import derive_seed
from r1kit.ui.chat import routes
from r1kit.ui.chat.pool import Pool
from r1kit.ui.folders import Run
from tests.ui.chat.test_questions import rollout
from tests.ui.chat.test_speakers import make_stage

# Answers with what it was told, as the text of one piece.
ECHO = """
import json, sys
sys.stdin.readline()
print(json.dumps({"ready": {"device": "cpu", "dtype": "float32"}}), flush=True)
for line in sys.stdin:
    told = json.loads(line)
    if "ask" in told:
        key = told.pop("ask")
        print(json.dumps({"id": key, "piece": json.dumps(told), "dim": False}), flush=True)
        print(json.dumps({"id": key, "end": True}), flush=True)
"""
QUESTION = "What is 2 + 3?"


class EchoPool(Pool):
    def __init__(self) -> None:
        super().__init__(command=(sys.executable, "-c", ECHO))


@pytest.fixture
def site(tmp_path: Path, client_of: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch) -> TestClient:
    for run in ("one", "two"):
        folder = tmp_path / "runs" / run
        make_stage(folder / "zero", "grpo", prompt_style="zero", max_new_tokens=200)
        make_stage(folder / "r1", "grpo", prompt_style="chat", max_new_tokens=300)
    rollouts = tmp_path / "runs" / "one" / "zero" / "rollouts"
    rollouts.mkdir()
    (rollouts / "step-00001.jsonl").write_text(rollout(QUESTION, "5"))
    monkeypatch.setattr(routes, "Pool", EchoPool)
    return client_of(tmp_path / "runs")


def ask(site: TestClient, models: list[Any], **more: Any) -> Any:
    rows = [{"model": one} if isinstance(one, str) else one for one in models]
    body = {"models": rows, "question": QUESTION} | more
    return site.post("/runs/one/chat/ask", json=body, headers={"accept": "application/json"})


def events(answer: Any) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def told(answer: Any) -> dict[int, dict[str, Any]]:
    return {event["at"]: json.loads(event["piece"]) for event in events(answer) if "piece" in event}


def config_of(page: Any) -> dict[str, Any]:
    assert page.status_code == 200, page.text
    found = re.search(r'data-config="([^"]*)"', page.text)
    assert found is not None
    import html

    config: dict[str, Any] = json.loads(html.unescape(found.group(1)))
    return config


def test_each_model_is_told_the_same_in_its_own_style(site: TestClient) -> None:
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello!"}]
    models = ["zero", "r1", "two:r1", {"model": "zero", "turns": turns}, {"model": "r1", "turns": turns}]
    found = told(ask(site, models, seed=7, turn=1, temperature=0.8, top_p=0.9, max_tokens=64))
    question = {"role": "user", "content": QUESTION}
    assert [found[at]["style"] for at in range(5)] == ["zero", "chat", "chat", "zero", "chat"]
    assert [found[at]["messages"] for at in range(5)] == [[question]] * 4 + [[*turns, question]]
    for at in range(5):
        assert found[at]["seed"] == derive_seed(7, "chat", 1)
        assert found[at]["params"] == {"max_tokens": 64, "temperature": 0.8, "top_p": 0.9}
        assert found[at]["problem"]["ground_truth"] == "5"
    assert events(ask(site, ["zero"]))[0] == {"truth": "5", "where": "rollouts of zero"}


def test_a_style_for_all_and_a_question_that_is_not_the_runs(site: TestClient) -> None:
    found = told(ask(site, ["zero", "r1"], style="chat", question="And you?"))
    assert [found[at]["style"] for at in range(2)] == ["chat", "chat"]
    assert [found[at]["problem"] for at in range(2)] == [None, None]


def test_a_model_that_cannot_be_asked_is_a_sentence_beside_the_others(site: TestClient) -> None:
    found = events(ask(site, ["base", "zero"]))
    (fault,) = [event for event in found if "fault" in event]
    assert fault["at"] == 0
    assert fault["fault"] == "The base model of one is not known here. Its stages can be asked."
    assert sum("piece" in event for event in found) == 1
    assert sorted(event["at"] for event in found if event.get("end")) == [0, 1]


@pytest.mark.parametrize(
    ("change", "status", "sentence"),
    [
        ({"question": "  \n"}, 400, "The question is empty."),
        ({"models": []}, 422, "models"),
        ({"models": [{"model": "zero"}] * 13}, 422, "models"),
        ({"models": [{"model": "zeor"}]}, 404, "one has no model 'zeor' to talk to; did you mean `zero`?"),
        ({"models": [{"model": "three:zero"}]}, 404, "There is no run 'three' in"),
        ({"models": [{"model": "../zero"}]}, 404, "one has no model '../zero' to talk to"),
        ({"temperature": -1}, 422, "temperature"),
        ({"top_p": 0}, 422, "top_p"),
        ({"max_tokens": 0}, 422, "max_tokens"),
        ({"seed": -1}, 422, "seed"),
        ({"seed": 2**60}, 422, "seed"),
        ({"style": "<b>x</b>"}, 422, "style"),
        ({"no_such_field": 1}, 422, "no_such_field"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(
    site: TestClient, change: dict[str, Any], status: int, sentence: str
) -> None:
    body = {"models": [{"model": "zero"}], "question": QUESTION} | change
    answer = site.post("/runs/one/chat/ask", json=body, headers={"accept": "application/json"})
    assert answer.status_code == status
    assert sentence in answer.json()["error"]


def test_the_page_chooses_what_the_address_says(site: TestClient) -> None:
    plain = config_of(site.get("/runs/one/chat"))
    assert [model["key"] for model in plain["models"]] == ["base", "zero", "r1"]
    assert plain["chosen"] == ["zero", "r1"]  # there is no base here
    full = site.get(
        "/runs/one/chat?stage=r1&stage=zero&with=two:r1&q=a%26b&seed=3&q=%3Cb%3Ex&seed=4"
        "&temperature=0.25&top_p=0.5&max_tokens=77&style=zero"
    )
    config = config_of(full)
    assert config["chosen"] == ["r1", "zero", "two:r1"]
    assert [model["key"] for model in config["models"]] == ["base", "zero", "r1", "two:r1"]
    assert (config["questions"], config["seeds"]) == (["a&b", "<b>x"], [3, 4])
    for name, value in (("temperature", "0.25"), ("top-p", "0.5"), ("max-tokens", "77"), ("seed", "4")):
        assert re.search(rf'id="chat-{name}"[^>]* value="{value}"', full.text), name
    assert '<option value="zero" selected>' in full.text
    assert f'<option value="{QUESTION}">' in full.text


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ("stage=zeor", 404, "did you mean `zero`?"),
        ("with=nowhere:zero", 404, "There is no run &#39;nowhere&#39;"),
        ("temperature=hot", 422, "temperature"),
        ("temperature=nan", 422, "temperature"),
        ("max_tokens=-3", 422, "max_tokens"),
        ("seed=x", 422, "seed"),
        ("style=both", 422, "style"),
    ],
)
def test_an_address_that_cannot_be_shown_is_a_sentence(
    site: TestClient, query: str, status: int, sentence: str
) -> None:
    answer = site.get(f"/runs/one/chat?{query}")
    assert answer.status_code == status
    assert sentence in answer.text
    assert "Traceback" not in answer.text


def test_the_models_of_another_run(site: TestClient) -> None:
    rows = site.get("/runs/one/chat/models?of=two").json()
    assert [row["key"] for row in rows] == ["two:base", "two:zero", "two:r1"]
    assert site.get("/runs/one/chat/models?of=three").status_code == 404


def test_a_run_without_models_says_so(tmp_path: Path, client_of: Callable[..., TestClient]) -> None:
    make_stage(tmp_path / "cold_start", "cold_start", model=False)
    page = client_of(tmp_path).get(f"/runs/{tmp_path.name}/chat")
    assert page.status_code == 200
    assert "No stage of this run has a model yet." in page.text


def test_a_link_on_another_site_asks_nothing_by_itself(site: TestClient) -> None:
    address = "/runs/one/chat?q=What+is+1%3F&seed=3"
    own = config_of(site.get(address))
    assert (own["questions"], own["draft"]) == (["What is 1?"], "")
    other = config_of(site.get(address, headers={"Sec-Fetch-Site": "cross-site"}))
    assert (other["questions"], other["draft"]) == ([], "What is 1?")


def test_a_gpus_model_is_given_up_while_any_run_is_at_work(
    site: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = site.app.state.site  # type: ignore[attr-defined]
    assert not routes._is_at_work(shown)
    monkeypatch.setattr(Run, "holder", 7)
    assert routes._is_at_work(shown)
