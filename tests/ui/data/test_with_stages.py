"""The pages on what the stages themselves write, with scripted models and judges."""

import json
from pathlib import Path

import pytest

from r1kit.preferences import PreferencesConfig, run_preferences
from r1kit.types import Problem
from r1kit.ui.data.index import Indexes
from r1kit.ui.data.search import Filters, find
from r1kit.ui.data.verdicts import verdict_log, votes_on
from tests.data_stages import Script, stage_context
from tests.judges.chat_server import chat_server
from tests.tiny_models import tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def prompt(number: int) -> Problem:
    question = f"Question {number}?"
    return Problem(f"g{number}", "general", ({"role": "user", "content": question},), language="en")


def test_the_mean_of_the_votes_shown_is_the_difference_that_the_stage_wrote(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the two was drawn first, and whichever the judge saw first."""
    Script(monkeypatch, lambda text, number: f"<think>\nA thought.\n</think>\n\nAnswer {number}")

    def judge(body: dict) -> str:
        asked = body["messages"][-1]["content"]
        a, b = (int(asked.split(f"[Assistant {side}]")[1].split("Answer ")[1][0]) for side in "AB")
        # 3 is much better than 0, and a little better than 2
        verdict = ">>" if abs(a - b) > 1 else ">"
        return f"Well. [[A{verdict}B]]" if a > b else f"Well. [[B{verdict}A]]"

    with chat_server(judge) as server:
        config = PreferencesConfig(
            model="dev3",
            problems=["set"],
            label={"base_url": server.url, "model": "judge"},
            samples_per_problem=4,
            pairs_per_problem=6,
            max_new_tokens=100,
            max_length_gap_frac=9.0,
            max_phrase_gap_frac=9.0,
        )
        run_preferences(stage_context(tmp_path, base, {"set": [prompt(i) for i in range(6)]}, seed=5), config)
    index = Indexes().get(tmp_path / "data.jsonl", wait=60)
    log = verdict_log(tmp_path / "judgments.jsonl", wait=60)
    assert index is not None
    assert log is not None
    assert index.num_rows == 18  # of six pairs of a prompt, three differ by two or more
    first = set()
    for row in range(index.num_rows):
        entry = index.entry(row)
        votes = votes_on(log, entry.names, num_asked=4, seed=5)
        assert [vote.score for vote in votes] == [entry.difference] * 4 == [2.0] * 4
        first |= {vote.shown_first for vote in votes}
        assert entry.problem_id.startswith("g")
    assert first == {"first", "second"}
    # what had no preference keeps its votes, in its own order
    dropped = Indexes().get(tmp_path / "dropped.jsonl", wait=60)
    assert dropped is not None
    undecided = find(dropped, Filters(mark="no_preference")).rows.tolist()
    assert len(undecided) == json.loads((tmp_path / "counts.json").read_text())["no_preference"] == 18
    for row in undecided:
        entry = dropped.entry(row)
        one, other = (int(text.text.split("Answer ")[1]) for text in entry.texts)
        votes = votes_on(log, entry.names, num_asked=4, seed=5)
        assert [vote.score for vote in votes] == [1.0 if one > other else -1.0] * 4
